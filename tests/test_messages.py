"""Progress in a log file is lines, on a terminal a bar; warnings are lines of the main process."""

import io
import logging
import shlex
import sys
import time

import pytest
from accelerate import PartialState
from huggingface_hub.utils import validate_repo_id

from tangle_hf import errors, messages
from tangle_hf.errors import readable_errors
from tangle_hf.run_files import data_options
from tangle_hf.runs.closing import next_steps_of_front
from tangle_hf.runs.results import cost_text


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(monkeypatch, stream: io.StringIO, seconds: float) -> str:
    """What ten steps of 30, of which five were made before, print."""
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(messages, "SECONDS", seconds)
    with messages.progress_bar(30, "search", done=5) as bar:
        for step in range(10):
            time.sleep(0.002)
            bar.set_postfix_str(f"loss {step}", refresh=False)
            bar.update()
    with messages.progress_bar(30, "hidden", show=False) as bar:
        bar.update()
    return stream.getvalue()


def test_a_log_file_gets_a_line_now_and_then_and_at_the_end(monkeypatch):
    rare, often = (shown(monkeypatch, io.StringIO(), seconds) for seconds in (1000, 0.0))
    assert rare.count("\n") == 1 and 5 < often.count("\n") <= 11
    for text in (rare, often):
        assert "\r" not in text and "\n\n" not in text and text.endswith(" left, loss 9\n")
        assert text.splitlines()[-1].startswith("search: 15 of 30 (50%), 00:00 so far, ")


def test_a_terminal_gets_a_bar(monkeypatch):
    text = shown(monkeypatch, Terminal(), 1000)
    assert "\rsearch  " in text and "15 of 30" in text and "|" in text and "hidden" not in text


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_warning_is_a_line_that_says_so(monkeypatch, stream):
    logger = logging.getLogger("tangle_hf")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(sys, "stderr", stream())
    for _ in range(2):  # a second script in the same process prints it once
        with readable_errors():
            pass
    PartialState()
    messages.get_logger("tangle_hf.search").warning("give it more --max_steps")
    assert sys.stderr.getvalue().replace("\r", "") == "warning: give it more --max_steps\n"


def test_ctrl_c_is_exit_code_130(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with pytest.raises(SystemExit) as stopped, readable_errors():
        raise KeyboardInterrupt
    assert stopped.value.code == errors.STOPPED == 130 and sys.stderr.getvalue() == "stopped\n"


def test_progress_over_items_gives_them_all_with_and_without_a_known_length(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert list(messages.with_progress([3, 1, 2], "items")) == [3, 1, 2]
    assert list(messages.with_progress(iter("ab"), "stream")) == ["a", "b"]
    assert sys.stderr.getvalue().startswith("items: 3 of 3 (100%)") and "\nstream: 2 of ?" in sys.stderr.getvalue()


@pytest.mark.parametrize(
    ("folder", "name"), [("my run", "my-run"), ("half_1.5", "half_1.5"), ("läuft...", "l-uft"), ("...", "found")]
)
def test_a_name_for_the_hub_is_one_that_the_hub_allows(tmp_path, folder, name):
    command = next_steps_of_front(tmp_path / folder)["publish"]
    validate_repo_id(shlex.split(command)[-2])
    assert shlex.split(command) == ["tangle-hf", "push", str(tmp_path / folder), name, "--supernet"]


def test_another_command_gets_the_data_of_a_run():
    defaults = {"text_column": "text", "train_split": "train", "streaming": False}
    settings = {"train_file": ["a b.txt", "c.txt"], "test_file": "t.txt", "text_column": "story", "learning_rate": 1.0}
    assert data_options(defaults, defaults) == data_options({}, {}) == ""
    found = data_options(defaults | settings | {"streaming": True}, defaults)
    assert found == " --train_file 'a b.txt' c.txt --test_file t.txt --text_column story --streaming"


def test_a_search_says_its_time_beside_its_cost():
    results = {"search_cost": 1613.25, "largest": {}, "search": {"seconds": 61.2, "device": "CPU"}}
    assert cost_text(results) == "1,613.2 training steps of the largest net; 0:01:01 on CPU"
    resumed = {"search_cost": 2.0, "search": {"device": "CPU"}}
    assert cost_text(resumed) == "2.0 training steps of the most expensive net"
