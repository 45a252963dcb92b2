"""A cluster of two nodes by its address, one of which is lost: run by test_ray.

Prints what was asked and not answered, and how many workers were replaced, as JSON.
"""

import asyncio
import functools
import json
import sys
from pathlib import Path

from ray.cluster_utils import Cluster

from llmrankers_groupwise.engines.ray.engine import RayEngine
from llmrankers_groupwise.prompting.prompt_file import load_prompt
from llmrankers_groupwise.prompting.render import render
from llmrankers_groupwise.rankers.ask import EngineCaller
from llmrankers_groupwise.types import Sampling
from support.ray_engines import Echo

QUERIES = [f"query {n}" for n in range(300)]


async def unanswered(engine: RayEngine) -> list[str]:
    prompt = load_prompt("groupwise")
    questions = [render(query, ["a passage"], prompt, form=False) for query in QUERIES]
    replies = await EngineCaller(engine, Sampling())(questions)
    return [query for query, reply in zip(QUERIES, replies, strict=True) if reply.text != query]


async def main(folder: Path) -> None:
    node = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 2**27}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    other = cluster.add_node(**node)
    make = functools.partial(Echo, folder)
    engine = RayEngine(make, num_workers=2, gpus_per_worker=1, address=cluster.address)
    missed = await unanswered(engine)
    workers = len(list(folder.glob("pid-*")))
    loss = asyncio.create_task(asyncio.to_thread(cluster.remove_node, other, False))
    while not loss.done() or not engine.describe()["workers"]["replaced"]:
        missed += await unanswered(engine)
    described = engine.describe()["workers"]
    engine.close()
    cluster.shutdown()
    print(json.dumps({"missed": missed, "workers": workers, **described}), file=sys.stderr)


asyncio.run(main(Path(sys.argv[1])))
