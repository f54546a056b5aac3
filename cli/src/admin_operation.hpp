// Long work of the admin API: what a 202 began, followed to its end.
#pragma once

#include <functional>

#include "admin_client.hpp"

namespace conclave::cli {

/// Follows what `begun` is about until it is done: {"id", "state", "percent", ..} of
/// /admin/v1/operations/{id}. An answer that began nothing is returned as it is. `progress` hears
/// the percent done whenever they were asked for, ten times a second at the most.
///
/// The result of the work; its own error where it failed. A server that does not answer is asked
/// again for half a minute: a registry that falls comes back.
base::Result<boost::json::value> await_operation(
    const AdminClient& client, const AdminAnswer& begun,
    const std::function<void(unsigned percent)>& progress);

/// Runs what `call` begins to its end, with a bar on a terminal.
base::Result<AdminAnswer> run_operation(const AdminClient& client, const AdminCall& call,
                                        const std::string& label);

}  // namespace conclave::cli
