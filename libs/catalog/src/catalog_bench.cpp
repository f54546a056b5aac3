// How long people and dashboards wait for a catalog that has seen years: 100,000 versions and
// 10 million rows of usage in a PostgreSQL of its own, every call through the public interface.
//
//   catalog_bench [VERSIONS] [USAGE_ROWS]
//
// Prints the 50th and the 99th percentile of each call, in milliseconds, and fails if a question
// takes more than kBoundMs at the 99th.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "conclave/catalog/access.hpp"
#include "conclave/catalog/open.hpp"
#include "conclave/testkit/test_postgres.hpp"

namespace conclave::catalog {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kBoundMs = 50;
constexpr std::uint64_t kCalls = 400;
constexpr std::int64_t kNow = 1'750'000'000'000;
// The shape: half of the versions in one model, the others in models of 100.
constexpr std::uint64_t kVersionsOfAModel = 100;
constexpr std::uint64_t kTenants = 100, kKeysOfATenant = 10, kModels = 10;

// The rows that add_usage() would have made, by level; what they count does not matter.
const char* const kLevels[] = {
    "'t' || t, 'k' || t || '-' || k, 'm' || m, d, 1, 1, 1, 1, 1",
    "'t' || t, 'k' || t || '-' || k, '', d, 9, 9, 9, 9, 9",
    "'t' || t, '', 'm' || m, d, 9, 9, 9, 9, 9",
    "'t' || t, '', '', d, 9, 9, 9, 9, 9",
    "'', '', 'm' || m, d, 9, 9, 9, 9, 9",
    "'', '', '', d, 9, 9, 9, 9, 9",
};

std::string number(std::uint64_t value) { return std::to_string(value); }

void load_versions(testkit::TestPostgres& server, const std::string& url, std::uint64_t versions) {
  const std::string half = number(versions / 2);
  const std::string models = number(std::max<std::uint64_t>(1, versions / 2 / kVersionsOfAModel));
  const std::string each = number(kVersionsOfAModel);
  (void)server.run_sql(
      url,
      "SET search_path = conclave;"
      "INSERT INTO model (name, next_number, versions) VALUES ('big', " +
          half + " + 1, " + half +
          ");"
          "INSERT INTO model (name, next_number, versions) SELECT 'm' || lpad(i::text, 6, '0'), " +
          each + " + 1, " + each + " FROM generate_series(1, " + models +
          ") i;"
          "INSERT INTO version (model_id, number, sha256, uri, bytes, architecture, block_types,"
          " parameters, context_length, layers, dense_layers, experts, experts_used, expert_bytes,"
          " backbone_bytes, created_unix_ms, name, published_unix_ms)"
          " SELECT id, n, encode(sha256((name || n)::bytea), 'hex'), '/models/' || name, 1000000,"
          " 'qwen3moe', 'Q8_0, F32', 1000000, 4096, 3, 1, 4, 2, 100, 200, 1, name, 1"
          " FROM model, generate_series(1, versions) n;"
          "INSERT INTO digest SELECT model_id, number, decode(repeat('00', 32), 'hex'),"
          " decode(repeat('00', 384), 'hex'), 'template' FROM version;"
          "INSERT INTO alias SELECT id, a, 1 FROM model, unnest(array['production', 'canary']) a");
}

void load_usage(testkit::TestPostgres& server, const std::string& url, std::uint64_t days) {
  const auto range = [](std::uint64_t count, const char* name) {
    return "generate_series(1, " + number(count) + ") " + name;
  };
  const std::string t = range(kTenants, "t"), k = range(kKeysOfATenant, "k"),
                    m = range(kModels, "m"), d = range(days, "d");
  const std::string from[] = {t + ", " + k + ", " + m + ", " + d,
                              t + ", " + k + ", " + d,
                              t + ", " + m + ", " + d,
                              t + ", " + d,
                              m + ", " + d,
                              d};
  for (std::size_t level = 0; level < std::size(from); ++level) {
    std::string columns = kLevels[level];
    for (std::size_t at; (at = columns.find('{')) != std::string::npos;)
      columns.replace(at, 3, "9");
    (void)server.run_sql(url, std::string("INSERT INTO conclave.usage SELECT ") + kLevels[level] +
                                  " FROM " + from[level]);
  }
}

struct Row {
  std::string call;
  double p50_ms = 0, p99_ms = 0;
};

Row measured(const std::string& call, const std::function<bool(std::uint64_t)>& body) {
  std::vector<double> times;
  for (std::uint64_t i = 0; i < kCalls; ++i) {
    const auto start = Clock::now();
    if (!body(i)) {
      std::fprintf(stderr, "%s failed\n", call.c_str());
      std::exit(1);
    }
    times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  std::sort(times.begin(), times.end());
  const Row row{call, times[times.size() / 2], times[times.size() * 99 / 100]};
  std::printf("%-44s %8.2f %8.2f\n", row.call.c_str(), row.p50_ms, row.p99_ms);
  std::fflush(stdout);
  return row;
}

std::vector<Row> ask_models(Catalog& catalog, std::uint64_t versions) {
  const std::uint64_t half = versions / 2;
  const std::uint64_t models = std::max<std::uint64_t>(1, half / kVersionsOfAModel);
  const auto model = [models](std::uint64_t i) {
    const std::string digits = number(1 + i * 7919 % models);
    return "m" + std::string(6 - digits.size(), '0') + digits;
  };
  return {
      measured("list 100 versions, anywhere",
               [&](std::uint64_t i) {
                 return catalog.list({model(i) + ":50", 100}).has_value();
               }),
      measured("list 100 versions of a model of many",
               [&](std::uint64_t i) {
                 return catalog.list({"big:" + number(half - i * 97 % half), 100}).has_value();
               }),
      measured("list_versions 100 of a model of many",
               [&](std::uint64_t i) {
                 const auto before = static_cast<std::uint32_t>(half - i * 97 % half);
                 return catalog.list_versions("big", before, 100).has_value();
               }),
      measured("list_models 100",
               [&](std::uint64_t i) { return catalog.list_models(model(i), 100).has_value(); }),
      measured("resolve name",
               [&](std::uint64_t i) { return catalog.resolve(model(i)).has_value(); }),
      measured("resolve name@alias",
               [&](std::uint64_t i) { return catalog.resolve(model(i) + "@canary").has_value(); }),
      measured("resolve name:version",
               [&](std::uint64_t i) {
                 return catalog.resolve("big:" + number(1 + i * 97 % half)).has_value();
               }),
      measured("find_version",
               [&](std::uint64_t i) { return catalog.find_version(model(i), 7).has_value(); }),
      measured("digests",
               [&](std::uint64_t i) {
                 return catalog.digests({model(i), 7}).has_value();
               }),
      measured("find_key_by_hash (absent)",
               [&](std::uint64_t i) {
                 const auto key = catalog.find_key_by_hash(secret_hash(number(i)));
                 return !key && key.error().code == base::ErrorCode::kNotFound;
               }),
  };
}

std::vector<Row> ask_usage(Catalog& catalog, std::int32_t days) {
  const auto ask = [&](const std::string& tenant, const std::string& key, const std::string& model,
                       std::int32_t last, UsageBy by) {
    const auto sums = catalog.usage({tenant, key, model, std::max(1, days - last + 1), days, by});
    return sums && !sums->empty();
  };
  const auto tenant = [](std::uint64_t i) { return "t" + number(1 + i % kTenants); };
  const auto model = [](std::uint64_t i) { return "m" + number(1 + i % kModels); };
  const std::string none;
  return {
      measured("usage by day, all, a year",
               [&](std::uint64_t) { return ask(none, none, none, 365, UsageBy::kDay); }),
      measured("usage by day, a tenant, a year",
               [&](std::uint64_t i) { return ask(tenant(i), none, none, 365, UsageBy::kDay); }),
      measured("usage by day, a tenant and model, a year",
               [&](std::uint64_t i) { return ask(tenant(i), none, model(i), 365, UsageBy::kDay); }),
      measured("usage by day, a model, a year",
               [&](std::uint64_t i) { return ask(none, none, model(i), 365, UsageBy::kDay); }),
      measured("usage by day, a key, a year",
               [&](std::uint64_t i) {
                 return ask(tenant(i), "k" + tenant(i).substr(1) + "-3", none, 365, UsageBy::kDay);
               }),
      measured("usage by model, all, 31 days",
               [&](std::uint64_t) { return ask(none, none, none, 31, UsageBy::kModel); }),
      measured("usage by key, a tenant, 31 days",
               [&](std::uint64_t i) { return ask(tenant(i), none, none, 31, UsageBy::kKey); }),
      measured("usage by tenant, all, 31 days",
               [&](std::uint64_t) { return ask(none, none, none, 31, UsageBy::kTenant); }),
  };
}

void change(Catalog& catalog) {
  const Change by{"bench", "", kNow, {}, false};
  measured("move_alias", [&](std::uint64_t i) {
    const auto version = static_cast<std::uint32_t>(1 + i % 2);
    return catalog.move_alias({"m000001", "canary", version, {}}, by).has_value();
  });
  measured("add_usage, 50 rows", [&](std::uint64_t i) {
    std::vector<UsageRow> rows;
    for (std::uint64_t n = 0; n < 50; ++n) {
      rows.push_back({"t" + number(n), "k" + number(n) + "-1", "m1", 1, {1, 1, 1, 1, 1}});
    }
    return catalog.add_usage("batch" + number(i), rows, kNow).has_value();
  });
  measured("acquire_lease", [&](std::uint64_t) {
    return catalog.acquire_lease("leader", "bench", 1000, kNow).has_value();
  });
}

int run(std::uint64_t versions, std::uint64_t usage_rows) {
  const std::uint64_t days =
      std::max<std::uint64_t>(1, usage_rows / (kTenants * kKeysOfATenant * kModels));
  testkit::TestPostgres server({"shared_buffers=256MB", "max_wal_size=4GB"});
  const std::string url = server.url();
  const auto catalog = open_catalog(url).value();
  load_versions(server, url, versions);
  load_usage(server, url, days);
  (void)server.run_sql(url, "VACUUM ANALYZE");
  std::printf("versions %s, rows of usage %s\n%-44s %8s %8s\n",
              server.run_sql(url, "SELECT count(*) FROM conclave.version").c_str(),
              server.run_sql(url, "SELECT count(*) FROM conclave.usage").c_str(), "call", "p50 ms",
              "p99 ms");
  std::vector<Row> rows = ask_models(*catalog, versions);
  const auto usage = ask_usage(*catalog, static_cast<std::int32_t>(days));
  rows.insert(rows.end(), usage.begin(), usage.end());
  change(*catalog);
  const bool slow = std::ranges::any_of(rows, [](const Row& row) { return row.p99_ms > kBoundMs; });
  std::printf("%s\n", slow ? "SLOW: a question takes more than 50 ms" : "ok: all within 50 ms");
  return slow ? 1 : 0;
}

}  // namespace
}  // namespace conclave::catalog

int main(int argc, char** argv) {
  const auto argument = [&](int index, std::uint64_t otherwise) {
    return argc > index ? std::strtoull(argv[index], nullptr, 10) : otherwise;
  };
  return conclave::catalog::run(argument(1, 100'000), argument(2, 10'000'000));
}
