// The create lines of random scripts: every preset, codecs by their words, ladders, every policy, shapes, RoPE and arenas.
#pragma once

#include <string>
#include <vector>

#include "tests/model/script.h"
#include "tests/reference/test_data.h"

namespace kvc_scripts {

// What seeds go through one after the other, so that no set of scripts leaves one out.
const std::vector<std::string>& listed_codecs();
const std::vector<std::string>& listed_ladders();
const std::vector<std::string>& listed_policies();

// Mostly one that kvc_create takes; which codec, ladder and policy depends on the seed alone. "layer" lines come before it.
Script create_lines(uint64_t seed, kvc_reference::Choices& pick);

}  // namespace kvc_scripts
