// replay_c: the replayer of operation scripts (docs/SCRIPTS.md) over kvc.h alone, which those of all other languages are held against.
//     replay_c [target=T] [threads=N] FILE...
#include <cstdio>
#include <exception>

#include "tests/model/replay_files.h"

int main(int argc, char** argv) {
    try {
        return kvc_scripts::replay_files({argv + 1, argv + argc}, stdout, stderr);
    } catch (const std::exception& problem) {
        std::fprintf(stderr, "%s\n", problem.what());
        return 2;
    }
}
