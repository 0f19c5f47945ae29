"""A language model's captions at full size, against a real server that answers well and badly; and what asking costs here.

    python tests/benchmarks/chat.py
    python tests/benchmarks/chat.py --patches 300
    python tests/benchmarks/chat.py --transformers     # a real model of random weights behind `transformers serve`, too

Facts of generated maps are worded by the server, which lies, truncates, fails and repeats itself for a share of them. The
run is killed with -9 twice and then finished; then it is run again, and once more under a budget. The program fails if a
caption is not supported, a count of the report differs from the server's, an answered question is asked again, or the
budget is exceeded. Processor time is that of the process that asks, checks included.
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsdata.captions import CAPTIONERS, MapClasses, Surroundings, facts_of
from rsdata.captions.division import divide
from rsdata.captions.engines import check_for, open_model
from rsdata.captions.llm import BudgetSpent, Draft
from rsdata.captions.llm.prompting import first_messages
from rsdata.captions.view import View
from rsdata.labels import load_nomenclature
from rsdata.recipe import Captions, LanguageModel
from rsdata.records import PatchFacts, TextReport, TextRow
from rsdata.testing.chat_server import Server, behaviour_of, chat_server
from rsdata.testing.reference_maps import NOMENCLATURE, map_row, reference_map

MIX = ["good"] * 12 + ["lies", "lies", "liar", "truncates", "breaks", "fails", "repeats", "loops", "html"]
BUDGET = 400_000  # tokens
FIRST_KILL, SECOND_KILL = 0.25, 0.6  # shares of the patches that are answered by then


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patches", type=int, default=2000)
    parser.add_argument("--transformers", action="store_true", help="needs `pip install 'rsdata[serve]'`")
    said = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chat-"))
    try:
        wrong = measure(said.patches, folder)
        if said.transformers:
            wrong += ask_transformers(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for each in wrong:
        print(f"MISSED: {each}")
    return 1 if wrong else 0


def some_facts(count: int) -> list[PatchFacts]:
    classes = MapClasses.of(load_nomenclature(NOMENCLATURE).classes)
    found = {each.patch_id: each for each in (facts_of(map_row(n, 0), reference_map(n, 0), classes) for n in range(count))}
    return [found[name] for name in sorted(found)]


def write(url: str, store: Path, facts: list[PatchFacts], **changes: object) -> tuple[list[TextRow], TextReport]:
    model = LanguageModel.model_validate({"base_url": url, "model": "tiny", "concurrency": 8, "timeout_s": 60} | changes)
    names = [each.name for each in load_nomenclature(NOMENCLATURE).classes]
    with open_model(Captions(engine="llm", llm=model), Surroundings(names, answers=store)) as engine:
        return engine.captions(facts), engine.report()


def _work(url: str, store: Path, count: int) -> None:
    write(url, store, some_facts(count))


def killed_after(answers: int, server: Server, store: Path, count: int) -> None:
    """Run in a process of its own, and kill it once the server has given so many answers."""
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(server.url, store, count))
    process.start()
    while process.is_alive() and len(server.answered()) < answers:
        time.sleep(0.1)
    if process.pid is not None and process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def measure(count: int, folder: Path) -> list[str]:
    facts, store, wrong = some_facts(count), folder / "store", []
    with chat_server(folder / "log", MIX) as server:
        for share in (FIRST_KILL, SECOND_KILL):
            killed_after(int(share * count), server, store, count)
        asked_before = len(server.requests())
        start, begin = _processor(), time.monotonic()
        rows, report = write(server.url, store, facts)
        seconds, wall = _processor() - start, time.monotonic() - begin
        asked = server.requests()
        start = _processor()
        again = write(server.url, store, facts)[0]
        rerun = _processor() - start
        if again != rows or len(server.requests()) != len(asked):
            wrong.append("a second run asked again, or wrote something else")
    wrong += check_rows(rows, facts)

    # Some patches have the same prompt, so requests are counted, not digests. The first response to a prompt that breaks is no answer.
    first = [each for each in asked if each["try"] == 1 and each["status"] == 200]
    twice = len(first) - len({each["digest"] for each in first if each["kind"] == "breaks"}) - count
    if twice > 2 * 8:  # two kills, each with at most eight calls under way
        wrong.append(f"{twice} answered questions were asked again")
    template = CAPTIONERS["template"](Captions())
    prompts = [first_messages(draft_of(each, template.caption(each)), "paraphrase")[1]["content"] for each in facts]
    kinds = Counter(behaviour_of(prompt, MIX) for prompt in prompts)
    if report.captions != count or report.accepted_at_first + report.accepted_after_repair + report.fallen_back != count:
        wrong.append(f"the report counts {report.captions} captions of {count}")
    never = kinds["liar"] + kinds["repeats"] + kinds["loops"] + kinds["html"]
    if report.fallen_back < never:
        wrong.append(f"{report.fallen_back} captions fell back, at least {never} answers could not be used")
    if report.accepted_at_first > count - never - kinds["lies"] - kinds["truncates"]:
        wrong.append("more captions were accepted at first than the server worded well")

    print(f"{count:,} patches, killed twice with -9; {len(asked):,} requests, {twice} of them for an answer that was under way at a kill")
    print(f"server: {dict(sorted(kinds.items()))}")
    well = kinds["good"] + kinds["breaks"] + kinds["fails"]
    print(f"accepted at first {report.accepted_at_first:,} of the {well:,} that the server worded well at first")
    print(f"accepted after repair {report.accepted_after_repair:,}, fallen back {report.fallen_back:,}")
    print(f"sent back for {report.findings}")
    print(f"diversity {report.diversity.model_dump()}")
    finished = len(asked) - asked_before
    print(
        f"last run: {finished:,} requests in {wall:.0f} s, {1000 * seconds / max(1, finished):.1f} ms of processor time each, with checks"
    )
    print(f"from the store alone: {1000 * rerun / count:.1f} ms of processor time a caption, with checks")

    with chat_server(folder / "log2") as server:
        try:
            write(server.url, folder / "store2", facts, max_tokens=100, budget={"tokens": BUDGET})
            wrong.append("the budget was not reached; take more patches") if count >= 1500 else None
        except BudgetSpent as error:
            print(f"budget: {error}")
        used = sum(each["input"] + each["output"] for each in server.answered())
    print(f"budget of {BUDGET:,} tokens: {used:,} used, by the server's count")
    return [*wrong, *(["the budget was exceeded"] if used > BUDGET else [])]


def draft_of(about: PatchFacts, text: str) -> Draft:
    return Draft(about, text, divide(View(about), 0, may_answer=False))


def check_rows(rows: list[TextRow], facts: list[PatchFacts]) -> list[str]:
    """Hold every text to its facts, and to what it may tell, once more."""
    check = check_for([each.name for each in load_nomenclature(NOMENCLATURE).classes])
    wrong = []
    for row, about in zip(rows, facts, strict=True):
        found = check(row.output, draft_of(about, row.output))
        if row.model is None:  # the templates' own, which keep to their division in another way
            found = [each for each in found if each.kind != "told"]
        if found:
            wrong.append(f"{row.output!r} {found[0].sentence}")
    return wrong[:5]


def ask_transformers(folder: Path) -> list[str]:
    """Random words of a real model: whatever comes, the captions are the templates'."""
    facts = some_facts(6)
    with transformers_server(folder) as url:
        rows, report = write(url, folder / "store3", facts, model=str(folder / "model"), max_tokens=30, tries=2, timeout_s=120)
    print(f"transformers serve: {report.model_dump(exclude={'diversity', 'model'})}")
    expected = CAPTIONERS["template"](Captions())
    wrong = [
        f"a caption is not the template's: {row.output}"
        for row, each in zip(rows, facts, strict=True)
        if row.output != expected.caption(each)
    ]
    if report.fallen_back != 6 or report.findings.get("not_json", 0) + report.findings.get("cut_off", 0) < 6:
        wrong.append("random words were accepted, or are not in the report")
    if report.output_tokens == 0 or report.output_tokens > 6 * 2 * 30:
        wrong.append(f"{report.output_tokens} tokens of answers were counted")
    return wrong


@contextmanager
def transformers_server(folder: Path) -> Iterator[str]:
    """`transformers serve` with a tiny model of random weights; yields its address."""
    make_tiny_model(folder / "model")
    port, cache = 18_437, folder / "cache"
    (cache / "hub").mkdir(parents=True)
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(cache)}
    program = Path(sys.executable).with_name("transformers")
    command = [str(program), "serve", str(folder / "model"), "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                    break
                except (urllib.error.URLError, OSError):
                    if process.poll() is not None:
                        raise SystemExit((folder / "serve.log").read_text()[-2000:]) from None
                    time.sleep(1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()
            process.wait()


def make_tiny_model(folder: Path) -> None:
    """Write a Llama of two layers with random weights and a tokenizer of bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({"<s>": 0, "</s>": 1} | {letter: n for n, letter in enumerate(letters, start=2)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=len(letters) + 2, max_position_embeddings=8192, bos_token_id=0, eos_token_id=1, pad_token_id=1, **size)
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
