"""The table of split words, in every spelling that folders, files and columns have."""

import pytest

from tfpipe.format.splits import conflicting_words, split_of_file, split_of_word


@pytest.mark.parametrize(
    ("words", "split"),
    [
        ("train Training TRAIN", "train"),
        ("val valid Validation dev Development eval Evaluation", "validation"),
        ("test Testing holdout Hold-Out held_out", "test"),
    ],
)
def test_every_word_names_its_split(words, split):
    assert {split_of_word(word) for word in words.split()} == {split}


@pytest.mark.parametrize("word", ["", "cat", "testament", "training_set", "trainer", "values", "evil"])
def test_other_words_name_none(word):
    assert split_of_word(word) is None


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00004", "train"),
        ("eval-00000-of-00004.tfrecord", "validation"),
        ("mnist-test.tfrecord-00000-of-00001", "test"),
        ("ld_train00-1338.tfrec", "train"),
        ("imagenet_hold_out_3.record", "test"),
        ("train_val_0.tfrecord", None),
        ("flowers-00001.tfrecord", None),
        ("testament.tfrecord", None),
    ],
)
def test_the_split_in_a_file_name(name, split):
    assert split_of_file(name) == split


def test_spellings_of_one_word_agree_and_two_words_of_one_split_conflict():
    assert conflicting_words(["val", "Valid", "validation", "train", "cat"]) is None
    assert conflicting_words(["train", "eval", "dev"]) == ("dev", "eval")
    assert conflicting_words(["test", "Holdout"]) == ("Holdout", "test")
