# OpenAI's client of PyPI in front of the server that its environment names; and what Prometheus reads
# of its numbers.
import urllib.request

import openai
from prometheus_client.parser import text_string_to_metric_families

client = openai.OpenAI()
messages = [{"role": "user", "content": "Hello there"}]

model = client.models.list().data[0].id
assert client.models.retrieve(model).id == model

whole = client.chat.completions.create(model=model, messages=messages, max_tokens=12)
text = whole.choices[0].message.content
assert text and whole.usage.completion_tokens == 12, whole
chunks = list(client.chat.completions.create(model=model, messages=messages, max_tokens=12, stream=True))
assert "".join(c.choices[0].delta.content or "" for c in chunks) == text
with client.chat.completions.stream(model=model, messages=messages, max_tokens=12) as stream:
    assert "".join(e.delta for e in stream if e.type == "content.delta") == text

old = client.completions.create(model=model, prompt="Once upon a time", max_tokens=6)
parts = client.completions.create(model=model, prompt="Once upon a time", max_tokens=6, stream=True)
assert "".join(p.choices[0].text for p in parts) == old.choices[0].text != ""

response = client.responses.create(model=model, input="Hello there", max_output_tokens=12)
assert response.output_text == text and response.usage.output_tokens == 12, response
with client.responses.stream(model=model, input="Hello there", max_output_tokens=12) as stream:
    events = list(stream)
assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == text
assert events[-1].type == "response.incomplete" and events[-1].response.output_text == text

for wrong, error in (
    ({"model": "none"}, openai.NotFoundError),
    ({"temperature": 1000}, openai.BadRequestError),
):
    try:
        client.chat.completions.create(**{"model": model, "messages": messages, **wrong})
    except error:
        continue
    raise AssertionError(f"{wrong}: no {error}")

with urllib.request.urlopen(f"{str(client.base_url).removesuffix('/v1/')}/metrics") as page:
    families = {f.name: f for f in text_string_to_metric_families(page.read().decode())}
for name, kind in (
    ("exitlm_http_requests", "counter"),
    ("exitlm_queue_length", "gauge"),
    ("exitlm_time_to_first_token_seconds", "histogram"),
    ("process_cpu_seconds", "counter"),
):
    assert families[name].type == kind and families[name].samples, name
assert all(f.documentation and f.type != "unknown" for f in families.values())

print("all right")
