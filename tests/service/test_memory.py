"""What a process may hold in memory, what bundles need of it, and what is said about the two."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from bertapi.client import BertClient
from bertserve.bundle import Head, open_bundle
from bertserve.engine.ort.run_memory import LOGITS_BYTES, estimate_run_bytes
from bertserve.engine.ort.session import knows_cache_size
from bertserve.loading import MemoryShortage, find_memory_shortage, load_model
from bertserve.models import ServedModel
from bertserve.process.memory import read_memory_limit, resident_bytes
from servers import PLAIN, PRETRAINING, running_server

GIB = 2**30
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"
V1 = "32 31 0:29 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n"
SLICE = "sys/fs/cgroup/kube.slice"

CASES: dict[str, tuple[dict[str, str], int | None]] = {
    "nothing mounted": ({}, None),
    "version 2, of a container": ({"sys/fs/cgroup/memory.max": f"{2 * GIB}\n"}, 2 * GIB),
    "version 2 without a limit": ({"sys/fs/cgroup/memory.max": "max\n"}, None),
    "version 1, of a container": ({"sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}\n"}, GIB),
    "version 1 without a limit": ({"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
    "unreadable": ({"sys/fs/cgroup/memory.max": "what is this"}, None),
    "nested, a parent's is tighter": (
        {
            "proc/self/mountinfo": V2,
            "proc/self/cgroup": "0::/kube.slice/pod/box\n",
            f"{SLICE}/memory.max": f"{GIB}",
            f"{SLICE}/pod/memory.max": "max",
            f"{SLICE}/pod/box/memory.max": f"{4 * GIB}",
        },
        GIB,
    ),
    "nested in version 1": (
        {
            "proc/self/mountinfo": V1,
            "proc/self/cgroup": "4:memory:/pod/box\n3:cpu:/\n",
            "sys/fs/cgroup/memory/pod/memory.limit_in_bytes": f"{3 * GIB}",
            "sys/fs/cgroup/memory/pod/box/memory.limit_in_bytes": f"{5 * GIB}",
        },
        3 * GIB,
    ),
    "a neighbour's does not count": (
        {
            "proc/self/mountinfo": V2,
            "proc/self/cgroup": "0::/kube.slice/pod\n",
            f"{SLICE}/pod/memory.max": f"{3 * GIB}",
            f"{SLICE}/other/memory.max": f"{GIB}",
        },
        3 * GIB,
    ),
}


@pytest.fixture(scope="module")
def model() -> ServedModel:
    return load_model("plain", PLAIN, lane_threads=1)


@pytest.mark.parametrize(("files", "limit"), CASES.values(), ids=CASES)
def test_the_tightest_limit_above_a_process_counts(files: dict[str, str], limit: int | None, tmp_path: Path) -> None:
    """Of both versions of cgroups, nested or seen from inside a container."""
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="ascii")
    assert read_memory_limit(tmp_path) == limit


@pytest.mark.parametrize(
    "mount",
    [
        b"/mnt rw - tmpfs  rw",
        b"/caf\xe9 rw - tmpfs tmpfs rw",
        b"/a\x0cb rw - tmpfs tmpfs rw",
        b"/a\xe2\x80\xa8b rw - tmpfs t rw",
    ],
    ids=["without a source", "not UTF-8", "a form feed", "a line separator"],
)
def test_a_mount_of_any_name_hides_no_limit(mount: bytes, tmp_path: Path) -> None:
    """A mount may have no source, and its path may hold any byte; the server starts all the same."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_bytes(b"1:name=caf\xe9:/a\x0cb\n0::/my pod\n")
    (tmp_path / "proc/self/mountinfo").write_bytes(b"40 1 0:30 / " + mount + b"\n" + V2.encode())
    (tmp_path / "sys/fs/cgroup/my pod").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/my pod/memory.max").write_text(f"{GIB}", encoding="ascii")
    assert read_memory_limit(tmp_path) == GIB


def test_a_mount_point_may_hold_a_space(tmp_path: Path) -> None:
    """mountinfo writes it as an escape."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/pod\n", encoding="ascii")
    (tmp_path / "proc/self/mountinfo").write_text(V2.replace("/sys/fs", "/my\\040sys"), encoding="ascii")
    (tmp_path / "my sys/cgroup/pod").mkdir(parents=True)
    (tmp_path / "my sys/cgroup/pod/memory.max").write_text(f"{GIB}", encoding="ascii")
    assert read_memory_limit(tmp_path) == GIB


def test_resident_memory_is_what_the_system_says() -> None:
    """statm counts pages, /proc/self/status kilobytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = int(status.partition("VmRSS:")[2].split()[0])
    assert resident_bytes() == pytest.approx(kilobytes * 1024, rel=0.05)


def test_a_system_without_proc_tells_no_memory(tmp_path: Path) -> None:
    """Memory is stated as unknown instead of ending the start."""
    assert resident_bytes(tmp_path) == 0


def shortage_of(
    model: ServedModel, limit: int | None, queue_tokens: int = 65_536, batch_tokens: int = 1
) -> MemoryShortage | None:
    """On two lanes."""
    return find_memory_shortage([model], limit, 2, queue_tokens=queue_tokens, batch_tokens=batch_tokens)


def test_a_limit_below_the_need_is_a_shortage_of_the_difference(model: ServedModel) -> None:
    """Two lanes may run the longest text at the same time."""
    need = model.engine.estimate_run_bytes(model.facts.max_tokens)
    assert shortage_of(model, None) is None
    assert shortage_of(model, resident_bytes() + 2 * need + GIB) is None
    shortage = shortage_of(model, 1000)
    assert shortage is not None
    assert shortage.needed_bytes == pytest.approx(resident_bytes() + 2 * need, rel=0.05)


def test_large_batches_need_more_than_the_longest_text(model: ServedModel) -> None:
    """64 texts of equal length hold 64 times the rows and scores of one, and a batch never exceeds the queue."""
    tokens = model.facts.max_tokens
    one, many, bound = (
        shortage_of(model, 1, batch_tokens=batch, queue_tokens=queue)
        for batch, queue in ((1, 65_536), (64 * tokens, 65_536), (64 * tokens, tokens))
    )
    assert one is not None
    assert many is not None
    assert bound is not None
    grown = 2 * 63 * model.engine.estimate_run_bytes(tokens)
    assert many.needed_bytes - one.needed_bytes == pytest.approx(grown, rel=0.05)
    assert bound.needed_bytes < many.needed_bytes


def test_texts_that_no_queue_takes_need_no_memory(model: ServedModel) -> None:
    """A lower --queue-tokens is a remedy that the warning names."""
    longest, short = (shortage_of(model, 1, queue_tokens=tokens) for tokens in (65_536, 8))
    assert longest is not None
    assert short is not None
    assert short.needed_bytes < longest.needed_bytes


def test_scores_count_whole_without_flash_attention() -> None:
    """8,192 tokens and 16 heads are 4 GiB of scores, and 16 MiB of them with flash attention."""
    facts = open_bundle(PLAIN).model.model_copy(update={"attention_heads": 16, "heads": (Head.EMBEDDING,)})
    whole, flash = (estimate_run_bytes(facts, 8192, has_flash=has_flash, few_masks=True) for has_flash in (False, True))
    assert whole - flash == 16 * 8192**2 * 4 - 16 * 512**2 * 4


def test_a_cache_that_the_system_knows_is_known() -> None:
    """Python has no name for this number of the C library, so `getconf` has to agree."""
    said = subprocess.run(["getconf", "LEVEL2_CACHE_SIZE"], capture_output=True, text=True, check=False)
    if said.returncode:
        pytest.skip("getconf does not tell the size of the cache")
    assert knows_cache_size() == (said.stdout.strip() not in ("", "0", "undefined"))


def test_words_for_masks_count_as_wide_as_the_vocabulary() -> None:
    """A text may be nothing but masks; graphs for long texts take a few of them at a time."""
    facts = open_bundle(PRETRAINING).model.model_copy(update={"vocabulary_size": 250_000})
    assert estimate_run_bytes(facts, 8192, has_flash=True, few_masks=False) > 8192 * 250_000 * 4
    assert estimate_run_bytes(facts, 8192, has_flash=True, few_masks=True) < 4 * LOGITS_BYTES


def test_get_model_tells_the_memory_of_a_bundle() -> None:
    """How much loading it took, and how much its longest text takes beside it."""
    with running_server(PRETRAINING) as server, BertClient(server.target) as client:
        served = client.get_model()
    facts = open_bundle(PRETRAINING).model
    assert served.longest_text_bytes == estimate_run_bytes(facts, facts.max_tokens, has_flash=False, few_masks=False)
    assert 0 < served.loaded_bytes < GIB
