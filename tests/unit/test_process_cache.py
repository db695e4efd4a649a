"""Costly things are made once, the last few are kept, and content is told apart."""

import threading

from tfx_distill.trainer.process_cache import ProcessCache, digest, forget_unused


def test_what_was_used_longest_ago_goes_first():
    made = []
    cache = ProcessCache(2)

    def get(key):
        return cache.get(key, lambda: made.append(key) or key.upper())

    assert [get(key) for key in "abacab"] == list("ABACAB")
    # c drops b, which was used before a; b is made again.
    assert made == ["a", "b", "c", "b"]
    cache.clear()
    assert get("b") == "B"
    assert made[-2:] == ["b", "b"]


def test_threads_that_want_the_same_thing_make_it_once():
    cache, made, start = ProcessCache(1), [], threading.Barrier(8)

    def work():
        start.wait()
        cache.get("x", lambda: made.append(1))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_a_digest_is_of_names_and_bytes(tmp_path):
    def folder(name, **files):
        for path, content in files.items():
            file = tmp_path / name / path.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        return tmp_path / name

    one = folder("one", a="x", b__c="y")
    assert digest(one) == digest(folder("two", a="x", b__c="y"))
    assert digest(one) != digest(folder("three", a="x", b__d="y"))
    assert digest(one) != digest(folder("four", a="x", b__c="z"))
    # Bytes do not run from one file into the next.
    assert digest(folder("five", a="xb", c="")) != digest(folder("six", a="x", c="b"))
    assert digest(one, ("b",)) == digest(folder("seven", a="x", b__c="z"), ("b",))


def test_what_a_span_did_not_use_is_forgotten():
    cache, other = ProcessCache(4), ProcessCache(4)
    made = []

    def make(name):
        return lambda: made.append(name) or name

    for name in ("old", "new"):
        cache.get(name, make(name))
    other.get("else", make("else"))
    forget_unused()
    cache.get("new", make("new"))
    forget_unused()
    assert made == ["old", "new", "else"]
    cache.get("new", make("new"))
    assert made == ["old", "new", "else"]
    cache.get("old", make("old"))
    other.get("else", make("else"))
    assert made == ["old", "new", "else", "old", "else"]
