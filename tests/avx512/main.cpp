// Runs the tests as an ordinary program, or as the first and only process of an emulated machine (run.py), which it then turns off.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cstdio>
#include <doctest/doctest.h>
#include <sys/io.h>
#include <sys/reboot.h>
#include <termios.h>
#include <unistd.h>

namespace {

// Bochs stops when this word is written to its port; other machines take the second way.
void turn_off() {
    constexpr unsigned short bochs_port = 0x8900;
    if (ioperm(bochs_port, 1, 1) == 0) {
        for (const char* c = "Shutdown"; *c; ++c) {
            outb(static_cast<unsigned char>(*c), bochs_port);
        }
    }
    reboot(RB_POWER_OFF);
}

}  // namespace

int main(int argc, char** argv) {
    const int result = doctest::Context(argc, argv).run();
    if (getpid() == 1) {
        std::printf("kvc_avx512_tests: exit status %d\n", result);
        std::fflush(stdout);
        tcdrain(STDOUT_FILENO);
        turn_off();
    }
    return result;
}
