// The contract of Catalog, against every store that implements it: these suites are in two
// programs, one that instantiates them over SQLite and one over PostgreSQL. Test code only.
#pragma once

#include <gmock/gmock.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "conclave/catalog/catalog.hpp"
#include "conclave/catalog/open.hpp"
#include "testing_scans.hpp"

namespace conclave::catalog::test {

struct StoreKind {
  std::string name;
  /// An address where there is nothing yet.
  std::function<std::string()> fresh_url;
  /// Whether another catalog may be opened at the same address.
  bool shared = true;
};

/// Those of the program.
std::vector<StoreKind> stores();

inline std::string name_of(const testing::TestParamInfo<StoreKind>& kind) {
  return kind.param.name;
}

class ContractTest : public testing::TestWithParam<StoreKind> {
 protected:
  static constexpr std::int64_t kNow = 1'750'000'000'000;

  void SetUp() override {
    url_ = GetParam().fresh_url();
    catalog_ = open();
    ASSERT_NE(catalog_, nullptr);
  }

  [[nodiscard]] std::unique_ptr<Catalog> open() const {
    CatalogOptions options;
    options.server_clock = false;
    auto opened = open_catalog(url_, options);
    if (!opened) ADD_FAILURE() << opened.error().to_string();
    return opened ? std::move(*opened) : nullptr;
  }

  static Change by(const std::string& actor, std::optional<std::uint64_t> if_revision = {}) {
    return {actor, "request-1", kNow, if_revision, false};
  }
  static Change dry_run() { return {"tester", "request-1", kNow, {}, true}; }
  const Change change_ = by("tester");

  base::Result<Version> try_add(const std::string& name, std::uint8_t seed,
                                std::vector<std::string> aliases = {}, bool draft = false) {
    return catalog_->add_version(made_scan(name, seed),
                                 {"/models/" + name, std::move(aliases), draft, {}}, change_);
  }
  Version add(const std::string& name, std::uint8_t seed, std::vector<std::string> aliases = {}) {
    return try_add(name, seed, std::move(aliases)).value();
  }
  Version add_draft(const std::string& name, std::uint8_t seed) {
    return try_add(name, seed, {}, true).value();
  }
  std::uint64_t revision() { return catalog_->revision().value(); }

  std::string url_;
  std::unique_ptr<Catalog> catalog_;
};

template <class Result>
base::ErrorCode code_of(const Result& result) {
  return result ? base::ErrorCode{} : result.error().code;
}

}  // namespace conclave::catalog::test
