// The order of lanes that a whole run has.
#pragma once
#include "kernels/simt/machine.h"

namespace kvc::simt {

// What KVC_SIMT_LANES says ("forward", "reverse" or "random"; forward if it says nothing), for everything that asks for no order of its
// own. Another word ends the process, so that a misspelt one does not pass for a run in that order.
LaneOrder lane_order_of_run();

}  // namespace kvc::simt
