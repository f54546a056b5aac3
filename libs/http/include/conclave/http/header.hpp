// A header field, and how a list of them is searched.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace conclave::http {

struct Header {
  std::string name;
  std::string value;

  friend bool operator==(const Header&, const Header&) = default;
};

/// The value of the first field of that name in any case; empty if there is none.
std::string_view find_header(const std::vector<Header>& headers, std::string_view name);

}  // namespace conclave::http
