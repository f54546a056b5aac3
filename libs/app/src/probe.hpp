// Asks the process that runs with the same settings how it is: `conclave-router health`, so that a
// container needs neither a shell nor curl to be watched.
#pragma once

#include <optional>
#include <string_view>

#include "conclave/app/admin.hpp"
#include "conclave/base/result.hpp"

namespace conclave::app {

enum class Probe : unsigned char { kHealth, kReady };

/// `health` or `ready`, as the first argument of a service program.
std::optional<Probe> probe_of(std::string_view word);

/// Ok if the endpoint of these settings answers 200. kUnavailable: nobody answers within
/// kProbeSeconds, or it is not ready, with its reason; kInvalidArgument: the settings say port 0,
/// which nobody can guess.
base::Status run_probe(Probe probe, const AdminSettings& settings);

/// Docker's and Kubernetes' own time-outs are 30 s and 1 s; a process that needs longer than this
/// to answer on loopback is not healthy.
inline constexpr int kProbeSeconds = 3;

}  // namespace conclave::app
