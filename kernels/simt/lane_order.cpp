#include "kernels/simt/lane_order.h"

#include <cstdio>
#include <cstdlib>

namespace kvc::simt {

LaneOrder lane_order_of_run() {
    static const LaneOrder order = [] {
        const char* const given = std::getenv("KVC_SIMT_LANES");
        const std::string word = given ? given : "forward";
        if (word != "forward" && word != "reverse" && word != "random") {
            std::fprintf(stderr, "KVC_SIMT_LANES=%s: it is forward, reverse or random\n", given);
            std::exit(2);
        }
        return word == "forward" ? LaneOrder::forward : word == "reverse" ? LaneOrder::reverse : LaneOrder::random;
    }();
    return order;
}

}  // namespace kvc::simt
