# OpenAI's client of PyPI in front of the server that its environment names.
import openai

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

print("all right")
