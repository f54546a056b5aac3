// What lies between the processes of a simulation: it delays, loses, doubles, reorders and parts,
// as far as the fabric's transports let that through to a node. Control messages of one connection
// stay in order; data calls do not.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "loop.hpp"

namespace conclave::sim {

using NodeIndex = std::uint32_t;

struct NetworkWeather {
  Duration delay_min = microseconds(50);
  Duration delay_max = microseconds(300);
  double loss = 0;
  double doubling = 0;
};

class Network {
 public:
  explicit Network(Loop& loop) : loop_(loop) {}

  NetworkWeather weather;

  void cut(NodeIndex a, NodeIndex b) { cuts_.insert(std::minmax(a, b)); }
  void mend(NodeIndex a, NodeIndex b) { cuts_.erase(std::minmax(a, b)); }
  void mend_all() { cuts_.clear(); }
  [[nodiscard]] bool is_cut(NodeIndex a, NodeIndex b) const {
    return !cuts_.empty() && cuts_.contains(std::minmax(a, b));
  }

  /// A control message: in order behind those of the same connection before it.
  void tell(NodeIndex from, NodeIndex to, Process& receiver, const Action& action) {
    Time& last = last_[{from, to}];
    last = std::max(last, loop_.now() + delay());
    carry(from, to, receiver, last, action);
  }
  /// A data message.
  void call(NodeIndex from, NodeIndex to, Process& receiver, const Action& action) {
    carry(from, to, receiver, loop_.now() + delay(), action);
  }

 private:
  Duration delay() { return loop_.between(weather.delay_min, weather.delay_max); }
  void carry(NodeIndex from, NodeIndex to, Process& receiver, Time time, const Action& action) {
    const int times = loop_.chance(weather.loss) ? 0 : loop_.chance(weather.doubling) ? 2 : 1;
    for (int i = 0; i < times; ++i) {
      loop_.at(time, [this, from, to, &receiver, life = receiver.life(), action] {
        if (!is_cut(from, to)) receiver.run(life, action);
      });
    }
  }

  Loop& loop_;
  std::set<std::pair<NodeIndex, NodeIndex>> cuts_;
  std::map<std::pair<NodeIndex, NodeIndex>, Time> last_;
};

}  // namespace conclave::sim
