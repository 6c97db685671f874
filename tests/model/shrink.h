// Makes a failing script small: fewer lines, then fewer tokens and options, as long as it still fails.
#pragma once

#include <functional>

#include "tests/model/script.h"

namespace kvc_scripts {

using Fails = std::function<bool(const Script&)>;

Script shrink(Script script, const Fails& fails, int64_t attempts = 2000);

}  // namespace kvc_scripts
