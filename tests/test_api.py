"""The public surface: names, docstrings, annotations and the order of arguments."""

import importlib
import inspect
import pathlib
import pkgutil

import keras
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


def _public_methods(value):
    """The public methods and properties that a class itself defines, as plain functions by name."""
    if inspect.isclass(value):
        for name, member in vars(value).items():
            function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
            if not name.startswith("_") and inspect.isfunction(function):
                yield name, function


def _has_own_docstring(value):
    # Python fills the docstring of a dataclass with its signature, and that of a NamedTuple too.
    text = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    return bool(text) and not text.startswith(f"{value.__name__}(")


# Implementations need not repeat the docstring that a method has in a protocol.
DOCUMENTED_BY_PROTOCOLS = {
    name
    for value in (parameter.values[0] for parameter in PUBLIC)
    if getattr(value, "_is_protocol", False)
    for name, function in _public_methods(value)
    if function.__doc__
}


@pytest.mark.parametrize("value", PUBLIC)
def test_every_public_name_has_a_docstring_of_its_own(value):
    assert _has_own_docstring(value)


@pytest.mark.parametrize("value", PUBLIC)
def test_every_public_method_has_a_docstring_or_implements_a_protocol_that_has(value):
    bare = {name for name, function in _public_methods(value) if not function.__doc__}
    if not getattr(value, "_is_protocol", False):
        bare -= DOCUMENTED_BY_PROTOCOLS
        bare -= {name for name in bare if any(getattr(base, name, None) for base in value.__bases__)}
    assert not bare


# Published signatures in which an argument with a default may be positional: users rely on them.
PUBLISHED = {
    *("make_dataset", "index", "class_weights", "for_host", "Manifest.num_records"),
    *("auto_augment", "one_of", "mixup", "cutmix", "random_resized_crop", "flip_left_right", "flip_up_down"),
    *("pad_and_crop", "cutout", "zoom", "grayscale", "gaussian_blur", "gaussian_noise", "coarse_dropout"),
    *("salt_and_pepper", "gamma", "mixup_or_cutmix"),
    *("warp_affine", "warp_perspective"),
    *("Resume.options", "main"),
}
# Methods that have the name of one of theirs follow its order of arguments.
FOREIGN = (pathlib.Path, keras.callbacks.Callback, keras.layers.Layer)


def _optional_by_position(function):
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.default is not p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]


def _functions(value):
    """A public function, or the public methods of a class, by qualified name."""
    if inspect.isfunction(value):
        return {value.__name__: value}
    methods = _public_methods(value)
    return {f"{value.__name__}.{name}": f for name, f in methods if not any(hasattr(c, name) for c in FOREIGN)}


@pytest.mark.parametrize("value", PUBLIC)
def test_arguments_with_defaults_are_keyword_only(value):
    found = {name for name, function in _functions(value).items() if _optional_by_position(function)}
    assert found <= PUBLISHED


def test_every_exception_of_that_rule_still_needs_to_be_one():
    functions = [item for parameter in PUBLIC for item in _functions(parameter.values[0]).items()]
    assert {name for name, function in functions if _optional_by_position(function)} == PUBLISHED


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


def test_make_dataset_has_the_signature_that_users_know():
    parameters = inspect.signature(tfpipe.make_dataset).parameters
    assert list(parameters)[:2] == ["source", "split"]
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in list(parameters.values())[2:])
    defaults = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
    assert defaults == {
        "split": "train",
        "image_size": None,
        "resize": "pad",
        "antialias": True,
        "channels": 3,
        "mask_fill": None,
        "labels": "one_hot",
        "max_boxes": 100,
        "max_points": 128,
        "views": 1,
        "repeat": False,
        "transforms": (),
        "training": None,
        "seed": 0,
        "options": tfpipe.ReadOptions(),
    }


def test_files_are_prepared_by_the_arguments_of_make_dataset():
    dataset = inspect.signature(tfpipe.make_dataset).parameters
    for function in (tfpipe.load_image, tfpipe.layers.Preprocess):
        parameters = inspect.signature(function).parameters
        assert list(parameters)[:7] == (
            ["path", "like", "image_size", "resize", "antialias", "channels", "dct"]
            if function is tfpipe.load_image
            else ["like", "image_size", "resize", "antialias", "channels", "dct", "name"]
        )
        for name in ("image_size", "antialias", "channels"):
            assert parameters[name].default == dataset[name].default
            assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters["dct"].default == tfpipe.ReadOptions().dct
