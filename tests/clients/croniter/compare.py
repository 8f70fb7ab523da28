"""Next times of random expressions, by appm and by croniter: there is no difference in what is compared.

    APPM_CRON_EXPRESSIONS=100000 APPM_CRON_SEED=7 tests/clients/run croniter

What is compared: five fields and six (croniter wants the seconds last), all that both understand: `*`, lists, ranges, steps, names,
7 as Sunday, `L`, `5#2`, in UTC, from random times. What is not, and who proves it instead:

- `W`, which croniter does not know (tables in src/api/cron/tests.rs);
- ranges of one, `5-5`, which croniter takes for all values, and `5#2` beside a day of the month, of which it wants both;
- times at which clocks are set, where the two follow different rules (the walk through every change of every zone, there too).

Whether an expression that begins a day field with `*/n` restricts the other day: croniter is told to follow Vixie's rule, as appm does.
"""

import json
import os
import random
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta, timezone

from croniter import croniter
from croniter.croniter import CroniterBadCronError, CroniterBadDateError

EXPRESSIONS = int(os.environ.get("APPM_CRON_EXPRESSIONS", "20000"))
SEED = int(os.environ.get("APPM_CRON_SEED", "2026"))
TIMES = 3
FROM = datetime(2024, 1, 1, tzinfo=timezone.utc)
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
DAYS = "sun mon tue wed thu fri sat".split()


def part(chance, least, most, words):
    """One part of a list: a number, a range, each with a step or without."""
    def number(n):
        return words[n - least] if words and n - least < len(words) and chance.random() < 0.3 else str(n)

    low = chance.randint(least, most - 1)
    high = chance.randint(low + 1, most)
    steps = chance.randint(1, max(1, (most - least) // 2))
    # A range that ends in the word for Sunday would end before it begins to one of the two.
    end = str(high) if words is DAYS and high in (0, 7) else number(high)
    return chance.choice([number(low), number(low), f"{low if high == 7 else number(low)}-{end}", f"{low}-{high}/{steps}"])


def field(chance, least, most, words=None, free=0.35):
    roll = chance.random()
    if roll < free:
        return "*"
    if roll < free + 0.15:
        return f"*/{chance.randint(1, most - least)}"
    return ",".join(part(chance, least, most, words) for _ in range(chance.choice([1, 1, 1, 2, 3])))


def expression(chance):
    day, weekday = field(chance, 1, 31, free=0.5), field(chance, 0, 7, DAYS, free=0.5)
    if chance.random() < 0.05:
        day = "L"
    elif day == "*" and chance.random() < 0.1:
        weekday = f"{chance.randint(0, 6)}#{chance.randint(1, 5)}"
    five = [field(chance, 0, 59), field(chance, 0, 23), day, field(chance, 1, 12, MONTHS, free=0.7), weekday]
    return [field(chance, 0, 59), *five] if chance.random() < 0.2 else five


def theirs(fields, begin):
    """croniter's answer; None if it finds none."""
    text = " ".join(fields if len(fields) == 5 else fields[1:] + fields[:1])
    try:
        each = croniter(text, begin, ret_type=datetime, implement_cron_bug=True, max_years_between_matches=60)
        return [each.get_next().strftime("%Y-%m-%dT%H:%M:%SZ") for _ in range(TIMES)]
    except CroniterBadDateError:
        return None


def judge(batch):
    """Compares the expressions of one batch, from one time; the differences."""
    seed, size = batch
    chance = random.Random(seed)
    begin = FROM + timedelta(seconds=chance.randrange(8 * 366 * 86400))
    asked = [expression(chance) for _ in range(size)]
    command = [os.environ["APPM_BIN"], "cron", "explain", "-", "-o", "json", "--tz", "UTC", "-n", str(TIMES),
               "--from", begin.strftime("%Y-%m-%dT%H:%M:%SZ")]
    text = "\n".join(" ".join(fields) for fields in asked)
    answer = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    wrong, never = [], 0
    for fields, line in zip(asked, answer.stdout.splitlines(), strict=True):
        ours = json.loads(line)
        try:
            other = theirs(fields, begin)
        except CroniterBadCronError as error:
            wrong.append(f"{' '.join(fields)}: croniter refuses it: {error}; appm: {ours}")
            continue
        if ours.get("error") == "no day of any year is meant by it" and other is None:
            never += 1
        elif ours.get("next") != other:
            wrong.append(f"{' '.join(fields)} from {begin}: appm {ours.get('next', ours)}, croniter {other}")
    return size, never, wrong


def main():
    size = 500
    batches = [(SEED * 1_000_003 + n, size) for n in range(-(-EXPRESSIONS // size))]
    compared = never = 0
    wrong = []
    with ProcessPoolExecutor() as pool:
        for some, none, differ in pool.map(judge, batches):
            compared, never = compared + some, never + none
            wrong += differ
    print(f"seed {SEED}: {compared} expressions, {TIMES} times each, {never} of them never; {len(wrong)} differ")
    for line in wrong[:40]:
        print(line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
