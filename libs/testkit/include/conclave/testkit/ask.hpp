// Requests to actors from a test's own thread.
#pragma once

#include <caf/actor_system.hpp>
#include <caf/scoped_actor.hpp>
#include <utility>

#include "conclave/base/result.hpp"
#include "conclave/fabric/caf_error.hpp"
#include "conclave/fabric/messages.hpp"
#include "conclave/testkit/events.hpp"

namespace conclave::testkit {

/// What the actor answered; its error, or kDeadlineExceeded after kPatience.
template <class Reply, class Handle, class Message>
base::Result<Reply> ask(caf::actor_system& system, const Handle& whom, Message message) {
  caf::scoped_actor self{system};
  base::Result<Reply> result = base::fail(base::ErrorCode::kInternal, "nothing came");
  self->request(whom, kPatience, std::move(message))
      .receive([&](Reply& reply) { result = std::move(reply); },
               [&](const caf::error& error) { result = base::fail(fabric::from_caf(error)); });
  return result;
}

}  // namespace conclave::testkit
