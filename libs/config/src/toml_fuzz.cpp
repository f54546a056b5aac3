// Any bytes: an error or items that keep their promises.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "conclave/base/check.hpp"
#include "toml.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto items = conclave::config::read_toml({reinterpret_cast<const char*>(data), size});
  if (!items) {
    CONCLAVE_CHECK(!items.error().message.empty());
    return 0;
  }
  for (const conclave::config::TomlItem& item : *items) {
    CONCLAVE_CHECK(!item.path.empty() && item.line > 0);
    CONCLAVE_CHECK(item.is_list || item.values.size() == 1);
  }
  return 0;
}
