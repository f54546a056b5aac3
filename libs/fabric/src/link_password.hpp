// What the two ends of a link without encryption prove themselves with (ZeroMQ's PLAIN mechanism:
// user name = the client's public key, password = this).
//
// It keeps out whoever has no key, and a mistaken peer; it does not keep out somebody who reads the
// wire and repeats what was said there. Against that there is encryption.
#pragma once

#include <string>
#include <string_view>

#include "conclave/fabric/keys.hpp"

namespace conclave::fabric {

/// The same text at both ends, made from a shared secret (X25519) that nobody else can compute.
/// `client` is the public key of the end that connects. Empty if a key is malformed.
std::string link_password(const KeyPair& own, std::string_view peer, std::string_view client);

/// In time that does not depend on the contents.
bool same_password(std::string_view a, std::string_view b);

}  // namespace conclave::fabric
