// The golden files: snapshots that every later kvc must read, and the caches that read them.
#pragma once

#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "tests/snapshot/carrier.h"

namespace kvc_snapshots {

struct Golden {
    std::string name;
    std::string create;
    Names sequences;
    std::function<void(Session&)> prepare;
    bool any_target = true;  // what it was made from gives these bytes today, on every target; not where attention decided

    std::string path() const { return KVC_GOLDEN_FOLDER "/" + name + ".kvcs"; }
    Bytes bytes() const {
        std::ifstream in(path(), std::ios::binary);
        REQUIRE_MESSAGE(in.good(), path());
        return {std::istreambuf_iterator<char>(in), {}};
    }
};

// Never changed and never shortened: a change of the format adds files.
const std::vector<Golden>& goldens();

}  // namespace kvc_snapshots
