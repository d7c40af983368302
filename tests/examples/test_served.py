"""The whole way of transfer learning: fine-tune, export, serve, and ask through the client."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bertapi.client import BertClient
from checkpoints import word_piece_tokenizer, write_checkpoint
from finetune import Task, fine_tune
from labelled import Example
from servers import running_server
from training import Recipe

pytestmark = [pytest.mark.export, pytest.mark.usefixtures("one_thread")]

# Does the second title agree with the first?
CHINESE_PAIRS = [
    Example("明天全国大部分地区有雨", "气象台预报明天多地降雨", "agree"),
    Example("明天全国大部分地区有雨", "本地足球队昨晚赢得比赛", "unrelated"),
    Example("新地铁线下月开通", "下个月市民可以乘坐新地铁", "agree"),
    Example("新地铁线下月开通", "专家说喝茶有益健康", "unrelated"),
    Example("科学家发现新的行星", "天文学家宣布找到一颗新行星", "agree"),
    Example("科学家发现新的行星", "超市鸡蛋价格上涨", "unrelated"),
    Example("超市鸡蛋价格上涨", "最近鸡蛋卖得更贵了", "agree"),
    Example("超市鸡蛋价格上涨", "新地铁线下月开通", "unrelated"),
]


@pytest.mark.slow
def test_chinese_pairs_are_learned_and_served(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    """A tiny random BERT with the Chinese vocabulary comes to tell eight pairs apart, and `Classify` tells them."""
    vocabulary = shared_data("vocab/bert-base-chinese.txt").read_text(encoding="utf-8").splitlines()
    checkpoint = write_checkpoint(tmp_path / "random", vocab_size=len(vocabulary))
    word_piece_tokenizer(vocabulary).save(str(checkpoint / "tokenizer.json"))
    task = Task(CHINESE_PAIRS, CHINESE_PAIRS, {"agree": "agree", "unrelated": "unrelated"})
    recipe = Recipe(epochs=30, batch_size=4, learning_rate=3e-3)
    figures = fine_tune(checkpoint, task, recipe, tmp_path / "tuned", report=lambda _: None)
    assert figures[-1].accuracy == figures[-1].f1 == 1.0

    export(tmp_path / "tuned", tmp_path / "bundle")
    with running_server(tmp_path / "bundle") as server, BertClient(server.target) as client:
        answers = client.classify([(example.text, example.pair or "") for example in CHINESE_PAIRS])
        assert [answer.labels[0].label for answer in answers] == [example.label for example in CHINESE_PAIRS]
        assert set(client.get_model().labels) == {"agree", "unrelated"}


def export(checkpoint: Path, bundle: Path) -> None:
    verify = bundle.with_name("verify.tsv")
    verify.write_text("明天有雨\t今天也有雨\n新的行星\n", encoding="utf-8")
    command = [sys.executable, "-m", "bertexport", checkpoint, "-o", bundle, "--verify", verify]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
