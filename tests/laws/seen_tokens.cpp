// Law: which tokens a query sees under a rule of positions. Keys of zero make every logit 0, so that exp(lse) counts them.
#include <algorithm>
#include <cmath>

#include "tests/laws/session.h"

using namespace kvc_laws;

namespace {

// Tokens that the query at an index sees: sinks, and the pages that hold any of the newest `kept` tokens besides itself.
int64_t seen(int64_t index, int64_t sinks, int64_t kept) {
    const int64_t first_page = std::max<int64_t>(0, index - kept - sinks) / 64;
    return first_page == 0 ? index + 1 : sinks + index + 1 - (sinks + 64 * first_page);
}

}  // namespace

TEST_CASE("streaming: a query sees the sinks and the pages of the newest tokens besides itself, up to 64 more") {
    for (const int64_t kept : {1, 63, 64, 65, 256})
        for (const int64_t chunk : {1, 64, 500}) {
            CAPTURE(kept);
            CAPTURE(chunk);
            Session session("codec=fp16 policy=streaming:4+" + std::to_string(kept));
            session.ok("seq a");
            for (int64_t length = 0; length < 500; length += chunk) {
                const int64_t n = std::min<int64_t>(chunk, 500 - length);
                session.ok("begin t a:" + std::to_string(n));
                session.ok("append t kind=zero");
                const std::vector<float> lse = session.ok("attend t").lse;
                session.ok("commit t");
                REQUIRE(lse.size() == static_cast<size_t>(n));
                for (int64_t i = 0; i < n; ++i) {
                    CAPTURE(length + i);
                    REQUIRE(std::lround(std::exp(static_cast<double>(lse[static_cast<size_t>(i)]))) == seen(length + i, 4, kept));
                }
            }
        }
}
