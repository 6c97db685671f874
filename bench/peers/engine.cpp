#include "bench/peers/engine.h"

#include <cstdlib>
#include <iostream>
#include <sstream>
#include <vector>

#include "bench/bandwidth.h"

namespace bench {
namespace {

double time_runs(Engine& engine, CacheFlush& flush, double budget) {
    engine.start_series();
    std::vector<double> samples;
    for (double used = 0; used < budget || samples.empty(); used += samples.back()) {
        flush();
        engine.wake_threads();
        samples.push_back(engine.run());
    }
    return median(samples);
}

CaseRequest parse_case(std::istringstream& words) {
    CaseRequest request;
    std::string shape;
    words >> request.kind >> shape >> request.type >> request.layout >> request.context >> request.threads;
    if (!words || (request.kind != "decode" && request.kind != "prefill") || request.context < 1 || request.threads < 1) {
        std::cerr << "engine: prepare KIND SHAPE TYPE LAYOUT CONTEXT THREADS was expected\n";
        std::exit(2);
    }
    request.shape = shape_of(shape);
    return request;
}

}  // namespace

int serve(Engine& engine) {
    CacheFlush flush;
    const ReadProbe probe;
    std::string line, prepared;
    int64_t bytes = 0;
    std::cout.precision(9);
    while (std::getline(std::cin, line)) {
        std::istringstream words(line);
        std::string verb;
        words >> verb;
        if (verb == "prepare") {
            if (line != prepared) bytes = engine.prepare(parse_case(words));
            prepared = line;
            std::cout << "ok " << bytes << std::endl;
        } else if (verb == "time") {
            double milliseconds = 0;
            words >> milliseconds;
            std::cout << "seconds " << time_runs(engine, flush, milliseconds / 1000) << std::endl;
        } else if (verb == "check") {
            std::cout << "error " << engine.check() << std::endl;
        } else if (verb == "bandwidth") {
            int64_t threads = 1;
            words >> threads;
            std::cout << "bytes_per_second " << probe.bytes_per_second(threads) << std::endl;
        } else {
            std::cerr << "engine: '" << verb << "' is no request\n";
            return 2;
        }
    }
    return 0;
}

}  // namespace bench
