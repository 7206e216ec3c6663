"""The shards of a command of exitlm, on a cluster of Ray.

    python ray_shards.py -n 8 -o SHARED/part -- exitlm gather MODEL --self-chat 4000
    exitlm train MODEL -o HEADS --gathered SHARED/part.*

Each shard is one task: the command with --shard I/N -o SHARED/part.I, in a folder that all machines
share. One that fails or whose machine is lost is run again, and goes on behind its last whole block.
Where a Ray cluster runs, --address auto finds it; else this machine is the cluster.
"""
import argparse
import subprocess
import sys

import ray

NO_CLUSTER = 75  # try later


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, required=True, help="shards")
    parser.add_argument("-o", required=True, help="where the parts go: PREFIX.1 … PREFIX.N")
    parser.add_argument("--address", help="of the cluster; left out: this machine")
    parser.add_argument("--cpus", type=int, default=1, help="processors of a shard (--threads)")
    parser.add_argument("--local-cpus", type=int, help="processors of this machine to use")
    parser.add_argument("--tries", type=int, default=3, help="of each shard")
    parser.add_argument("command", nargs="+", help="exitlm and its arguments, behind --")
    return parser.parse_args()


def shard(command, index, count, prefix):
    """One try. A failure is an exception, so that Ray tries again, elsewhere if need be."""
    whole = command + ["--shard", f"{index}/{count}", "-o", f"{prefix}.{index}", "-q"]
    done = subprocess.run(whole, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip() or f"signal {-done.returncode}")
    return done.stdout.strip()


def main():
    o = arguments()
    # nothing but a line of text is kept by Ray: parts are in the shared folder
    here = {} if o.address else {"num_cpus": o.local_cpus, "object_store_memory": 100 << 20}
    try:
        ray.init(address=o.address, include_dashboard=False, log_to_driver=False, **here)
    except Exception as error:  # it has no class of its own for this
        print(f"ray: there is no cluster: {str(error).splitlines()[0]}", file=sys.stderr)
        sys.exit(NO_CLUSTER)
    task = ray.remote(shard).options(
        num_cpus=o.cpus, max_retries=o.tries - 1, retry_exceptions=True)
    running = {task.remote(o.command, i, o.n, o.o): i for i in range(1, o.n + 1)}
    failed = 0
    while running:
        (ready,), _ = ray.wait(list(running))
        index = running.pop(ready)
        try:
            print(ray.get(ready), f"({len(running)} left)", flush=True)
        except ray.exceptions.RayError as error:
            failed += 1
            print(f"shard {index}/{o.n}: {str(error).splitlines()[-1]}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
