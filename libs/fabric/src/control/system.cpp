#include "conclave/fabric/system.hpp"

#include <algorithm>
#include <caf/all.hpp>
#include <string>
#include <thread>

#include "conclave/fabric/caf_error.hpp"

namespace conclave::fabric {

SystemConfig::SystemConfig(unsigned threads) {
  const unsigned wanted = threads == 0 ? std::thread::hardware_concurrency() : threads;
  set("scheduler.policy", caf::atom("sharing"));
  set("scheduler.max-threads", static_cast<std::size_t>(std::max(wanted, 2u)));
  set("scheduler.max-throughput", kMessagesPerTurn);
  add_error_category(kErrorCategory,
                     [](std::uint8_t code, caf::atom_value category, const caf::message& context) {
                       return from_caf(caf::error(code, category, context)).to_string();
                     });
}

}  // namespace conclave::fabric
