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

TEST_CASE(
    "fibers: one gives way to the next, which may just have started; the last returns to who resumed the first, wherever that is") {
    constexpr size_t count = 5, rounds = 20;
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<size_t> came;
    for (size_t i = 0; i < count; ++i)
        fibers.push_back(std::make_unique<Fiber>(256 * 1024));
    for (size_t i = 0; i < count; ++i) {
        fibers[i]->start([&, i] {
            const double held = std::sqrt(double(i));
            for (size_t round = 0; round + 1 < rounds; ++round) {
                came.push_back(i);
                if (i + 1 < count) {
                    fibers[i]->give_way_to(*fibers[i + 1]);
                } else {
                    fibers[i]->suspend();
                }
            }
            came.push_back(size_t(std::lround(held * held)));
        });
    }
    Fiber middle(256 * 1024);  // every other round begins on another stack
    for (size_t round = 0; round + 1 < rounds; ++round) {
        if (round % 2 == 0) {
            fibers[0]->resume();
        } else {
            middle.start([&] { fibers[0]->resume(); });
            middle.resume();
            CHECK(middle.done());
        }
        CHECK(came.size() == (round + 1) * count);
    }
    for (const auto& fiber : fibers) {
        CHECK(!fiber->done());
        fiber->resume();
        CHECK(fiber->done());
    }
    REQUIRE(came.size() == rounds * count);
    for (size_t i = 0; i < came.size(); ++i)
        CHECK(came[i] == i % count);
}
