"""No limit without a test at it and one past it."""

from __future__ import annotations

import re
from pathlib import Path

from bargein_server import Settings

ELSEWHERE = {
    "max_in_flight_bytes": "transport/test_peer_limits.py::test_output_waits_from_the_cap_on",
    "max_threads": "hosting/test_threads.py::test_max_threads",
    "max_threads_per_session": "hosting/test_threads.py::test_max_threads_per_session",
    "thread_wait_s": "hosting/test_threads.py::test_thread_wait_s",
    "startup_s": "test_stopping.py::test_startup_s",
    "shutdown_s": "test_stopping.py::test_shutdown_s",
    "max_overlapping_cleanups": "contract/test_cleanup_order.py::test_how_many_cleanups_overlap_is_a_setting",
    "keep_s": "endpoints/test_kept_conversations.py::test_sessions_are_kept_for_keep_s",
    "store_wait_s": "endpoints/test_kept_conversations.py::test_nobody_waits_for_a_store_that_is_late",
    "lease_s": "endpoints/test_shared_store.py::test_a_session_of_a_dead_node_is_claimed",
    "authenticator_s": "endpoints/test_users.py::test_an_authenticator_that_fails_lets_clients_try_again",
    "max_listeners": "voice/test_server.py::test_a_full_server_takes_no_more_ears",
    "max_recognitions": "hosting/test_hearing.py::test_few_recognitions_run_and_some_wait",
    "recognition_s": "voice/test_server.py::test_without_words_the_held_turn_goes_on",
    "speech_partial_s": "core/test_partials.py::test_speech_partial_s",
    "speak_ahead_s": "voice/test_speaking.py::test_sound_is_sent_a_little_ahead_of_the_player",
    "store_flush_s": "endpoints/test_kept_conversations.py::test_output_is_written_after_store_flush_s",
}
CHOICES = {"on_busy", "cleanup", "stream_closed", "close_model_calls", "metrics", "traces"}
"""Settings that are no limits."""


def test_every_limit_of_the_settings_has_its_test_here() -> None:
    """By its name; a new setting without one is missed."""
    here = Path(__file__).parent
    source = "\n".join(path.read_text() for path in here.glob("test_*.py"))
    named = {name for test in re.findall(r"def test_(\w+)\(", source) for name in test.split("_and_")}
    for place in ELSEWHERE.values():
        file, _, test = place.partition("::")
        assert f"def {test}(" in (here.parent / file).read_text()
    assert set(Settings.__struct_fields__) - CHOICES - set(ELSEWHERE) - named == set()
