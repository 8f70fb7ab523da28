"""A caller: sends a hundred tasks at once to `upper`, over one connection."""

import asyncio

from appm import AsyncClient, Refused


async def main() -> None:
    async with AsyncClient() as client:
        answers = await asyncio.gather(*(client.run("upper", f"task {i}", timeout=30) for i in range(100)), return_exceptions=True)
    for answer in answers:
        print(answer.decode() if isinstance(answer, bytes) else f"no answer: {answer}")


if __name__ == "__main__":
    asyncio.run(main())
