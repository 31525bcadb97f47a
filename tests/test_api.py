"""The public surface: names, docstrings, annotations and the order of arguments."""

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

import beam_jobs
import tfpipe

MODULES = sorted(
    module.name
    for package in (tfpipe, beam_jobs)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    if not module.name.endswith("__main__")
)


def _public_values():
    for name in MODULES:
        module = importlib.import_module(name)
        for attribute, value in vars(module).items():
            mine = getattr(value, "__module__", None) == name
            if mine and not attribute.startswith("_") and (inspect.isfunction(value) or inspect.isclass(value)):
                yield pytest.param(value, id=f"{name}.{attribute}")


PUBLIC = list(_public_values())


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_for(name):
    assert importlib.import_module(name).__doc__


@pytest.mark.parametrize("value", PUBLIC)
def test_every_public_name_has_a_docstring(value):
    assert inspect.getdoc(value)


@pytest.mark.parametrize("value", PUBLIC)
def test_every_public_function_is_annotated(value):
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        bare = [p.name for p in signature.parameters.values() if p.annotation is inspect.Parameter.empty]
        assert not bare
        assert signature.return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("value", PUBLIC)
def test_no_public_function_takes_anything_by_name(value):
    if inspect.isfunction(value):
        kinds = {parameter.kind for parameter in inspect.signature(value).parameters.values()}
        assert inspect.Parameter.VAR_KEYWORD not in kinds


def test_the_public_names_are_there():
    for name in tfpipe.__all__:
        assert getattr(tfpipe, name) is not None


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'make_datasets'; it has \['Feature'"):
        _ = tfpipe.make_datasets


def test_importing_tfpipe_loads_neither_tensorflow_nor_beam():
    code = "import sys, tfpipe; assert not {'tensorflow', 'keras', 'apache_beam', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_make_dataset_has_the_signature_that_users_know():
    parameters = inspect.signature(tfpipe.make_dataset).parameters
    assert list(parameters)[:2] == ["source", "split"]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in list(parameters.values())[2:])
    defaults = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
    assert defaults == {
        "split": "train",
        "image_size": None,
        "resize": "pad",
        "antialias": False,
        "labels": "one_hot",
        "transforms": (),
        "training": None,
        "seed": 0,
        "options": tfpipe.ReadOptions(),
    }
