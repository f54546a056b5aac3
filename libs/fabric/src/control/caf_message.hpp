// Which C++ types cross the wire as CAF messages: the alternatives of wire::Message that
// messages.hpp allows. This is the one place where the two worlds meet.
#pragma once

#include <caf/mailbox_element.hpp>
#include <caf/type_erased_tuple.hpp>
#include <optional>

#include "conclave/fabric/messages.hpp"
#include "conclave/wire/message.hpp"

namespace conclave::fabric {

/// The message that an actor sent; its value is moved out if nobody shares it. monostate if the
/// content is empty (the answer of a handler that answers nothing); nothing if it is anything else
/// than one wire message.
std::optional<wire::Message> take_message(caf::type_erased_tuple& content);

/// The message as an actor gets it; null if its type does not go to actors.
caf::mailbox_element_ptr make_element(caf::strong_actor_ptr sender, caf::message_id id,
                                      wire::Message message);

}  // namespace conclave::fabric
