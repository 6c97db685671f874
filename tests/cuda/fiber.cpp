// Fibers, whichever way the build switches them.
#include "kernels/simt/fiber.h"

#include <cmath>
#include <doctest/doctest.h>
#include <memory>
#include <vector>

using kvc::simt::Fiber;

TEST_CASE("fibers: keep their variables over switches, nest, end, and start again") {
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<double> sums(50, 0.0);
    for (size_t i = 0; i < sums.size(); ++i) {
        fibers.push_back(std::make_unique<Fiber>(256 * 1024));
        CHECK(fibers.back()->done());
    }
    for (int round = 0; round < 2; ++round) {
        for (size_t i = 0; i < sums.size(); ++i) {
            Fiber* const self = fibers[i].get();
            self->start([self, i, &sums] {
                double held[16];
                for (double& x : held) {
                    x = std::sqrt(double(i));
                    self->suspend();
                }
                for (const double x : held) {
                    sums[i] += x * x;
                }
            });
        }
        int turns = 0;
        for (bool left = true; left; ++turns) {
            left = false;
            for (const auto& fiber : fibers) {
                if (!fiber->done()) {
                    fiber->resume();
                    left = left || !fiber->done();
                }
            }
        }
        CHECK(turns == 17);
    }
    for (size_t i = 0; i < sums.size(); ++i) {
        CHECK(sums[i] == doctest::Approx(32.0 * double(i)));
    }
}

TEST_CASE("fibers: one that is left suspended may be forgotten") {
    int reached = 0;
    Fiber outer(256 * 1024);
    outer.start([&] {
        Fiber inner(256 * 1024);
        inner.start([&] {
            ++reached;
            inner.suspend();
            reached += 100;
        });
        inner.resume();
        outer.suspend();
        ++reached;
    });
    outer.resume();
    CHECK(reached == 1);
    outer.resume();
    CHECK(outer.done());
    CHECK(reached == 2);
}
