import pytest
from kvc_eval.modes import parse_mode, split_modes

CODEC = "k=int4.ch.g32.m8,v=int4.tok.rot.ls,window=128,sinks=4"


@pytest.mark.parametrize("text, expected", [
    ("fp16", ["fp16"]),
    ("fp16, int4 ,int2", ["fp16", "int4", "int2"]),
    (CODEC, [CODEC]),
    (f"int8,{CODEC},k=f16,v=f16,int2", ["int8", CODEC, "k=f16,v=f16", "int2"]),
    (f"{CODEC}+stream:20%;int4+h2o:400", [CODEC + "+stream:20%", "int4+h2o:400"]),
])
def test_commas_inside_codec_strings_do_not_separate(text, expected):
    assert split_modes(text) == expected


def test_no_mode_at_all():
    with pytest.raises(ValueError):
        split_modes(" , ")


def test_policies():
    mode = parse_mode("int4+stream:516")
    assert (mode.codec, mode.policy, mode.budget_tokens(2048)) == ("int4", "stream", 516)
    assert parse_mode("int4+h2o:20%").budget_tokens(2048) == 409
    assert parse_mode("int4").policy == "none"


@pytest.mark.parametrize("text", ["int4+", "int4+stream", "int4+stream:", "int4+stream:x", "int4+forget:20%", "int4+stream:0", "int4+stream:-5"])
def test_wrong_policies_are_refused(text):
    with pytest.raises(ValueError):
        parse_mode(text)


def test_steps_end_where_a_policy_acts():
    assert parse_mode("int4").cuts(0, 200) == [(0, 200)]
    evicting = parse_mode("int4+stream:100")
    assert evicting.cuts(0, 64) == [(0, 64)]
    assert evicting.cuts(60, 200) == [(60, 64), (64, 128), (128, 192), (192, 200)]
    assert evicting.cuts(64, 65) == [(64, 65)]
