#include "conclave/http/header.hpp"

#include "ascii.hpp"

namespace conclave::http {

std::string_view find_header(const std::vector<Header>& headers, std::string_view name) {
  for (const Header& header : headers) {
    if (equals_no_case(header.name, name)) return header.value;
  }
  return {};
}

}  // namespace conclave::http
