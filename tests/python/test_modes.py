import kvc
import pytest
from kvc_eval.modes import Mode, parse_mode, split_modes

CODEC = "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=128,sinks=4"


@pytest.mark.parametrize("text, expected", [
    ("fp16", ["fp16"]),
    ("fp16, int4 ,int2", ["fp16", "int4", "int2"]),
    (CODEC, [CODEC]),
    ("int4,window=64,sinks=8,fp16", ["int4,window=64,sinks=8", "fp16"]),
    (f"int8,{CODEC},k=f16,v=f16,int2", ["int8", CODEC, "k=f16,v=f16", "int2"]),
    (f"{CODEC}+streaming:20%;int4+h2o:400", [CODEC + "+streaming:20%", "int4+h2o:400"]),
    ("h2o:budget=409,recent=50%,tova:20%,int4+h2o:400,every=32,int2", ["h2o:budget=409,recent=50%", "tova:20%", "int4+h2o:400,every=32", "int2"]),
    ("streaming:4+512,sinks=0", ["streaming:4+512,sinks=0"]),
    (f"int8,fp16/{CODEC},int8/int4@512/{CODEC},int2", ["int8", f"fp16/{CODEC}", f"int8/int4@512/{CODEC}", "int2"]),
    (f"{CODEC}/{CODEC},fp16", [f"{CODEC}/{CODEC}", "fp16"]),
    ("int4,@a=b/model.cal,@c+h2o:20%,recent=25%", ["int4", "@a=b/model.cal", "@c+h2o:20%,recent=25%"]),
])
def test_commas_inside_codec_strings_do_not_separate(text, expected):
    assert split_modes(text) == expected


def test_a_mode_s_cache_gets_its_policy_however_the_mode_was_made():
    assert Mode("window", "fp16", "streaming:4+16").cache_policy == "streaming:4+16"
    assert parse_mode("int4+h2o:20%").cache_policy == "h2o:20%" and parse_mode("int4").cache_policy == ""


def test_no_mode_at_all():
    with pytest.raises(ValueError):
        split_modes(" , ")


def test_policies():
    library = kvc.default_library()
    assert parse_mode("int4") == Mode("int4", "int4", "")
    assert parse_mode("int4+h2o:20%") == Mode("int4+h2o:20%", "int4", library.policy_format("h2o:20%"), "h2o:20%")
    stands_for = {"best": "mean_attention"}
    for name in library.policies():
        suffix = ",every=never" if name == "given" else ""
        mode = parse_mode(f"{name}:409{suffix}")
        assert mode.codec == "fp16" and mode.policy.startswith(f"{stands_for.get(name, name)}:budget=409,sinks=4")
    long = "h2o:20%,merge=keys+values,merge_layers=10..19"  # its canonical form does not fit kvc_options.policy
    assert parse_mode("int4+" + long).policy_text == parse_mode(long).policy_text == long
    assert parse_mode("streaming:4+512").policy == "streaming:budget=516,sinks=4,every=64"


@pytest.mark.parametrize("text", ["int4+", "int4+h2o", "int4+h2o:", "int4+h2o:x", "int4+forget:20%", "h2o:0", "h2o:-5", "h2o:120%"])
def test_wrong_policies_are_refused(text):
    with pytest.raises((ValueError, kvc.KvcError)):
        parse_mode(text)


@pytest.mark.parametrize("text, words", [
    ("h20:20%", 'mode h20:20%: policy "h20" is not one of: none streaming h2o'),
    ("H2O:20%,recent=25%", 'mode H2O:20%,recent=25%: policy "H2O" is not one of'),
    ("int4+h20:20%", 'mode int4+h20:20%: policy "h20" is not one of'),
    ("h2o", "mode h2o: policy h2o: it needs a budget, as in h2o:20%"),
    ("h20", "mode h20: neither a codec (fp16 bf16 int8"),
    ("best:20%,colour=red", "mode best:20%,colour=red: policy best (mean_attention): it has no key"),
    ("k=int9,v=f16", "mode k=int9,v=f16: "),
])
def test_what_is_wrong_with_a_mode_is_said_of_what_was_meant(text, words):
    with pytest.raises(ValueError) as refused:
        parse_mode(text)
    assert words in str(refused.value) and str(refused.value).count("mode ") == 1
