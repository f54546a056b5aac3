// Usage, audit, watchers, and catalogs that share a database.
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>

#include "conclave/catalog/json.hpp"
#include "contract.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using test::code_of;
using test::made_scan;
using testing::ElementsAre;
using testing::IsEmpty;

using UsageContract = test::ContractTest;
using AuditContract = test::ContractTest;

using SharedContract = test::ContractTest;

// Those whose databases several catalogs may open.
std::vector<test::StoreKind> shared_stores() {
  std::vector<test::StoreKind> kinds = test::stores();
  std::erase_if(kinds, [](const test::StoreKind& kind) { return !kind.shared; });
  return kinds;
}

class WatchContract : public test::ContractTest {
 protected:
  // Waits until a watcher has heard of `revision`.
  void await(std::uint64_t revision) {
    std::unique_lock lock(mutex_);
    ASSERT_TRUE(heard_.wait_for(lock, std::chrono::seconds(60),
                                [&] { return !told_.empty() && told_.back() >= revision; }));
  }
  std::unique_ptr<Watch> watch(Catalog& catalog) {
    return catalog
        .watch([this](std::uint64_t revision) {
          const std::scoped_lock lock(mutex_);
          told_.push_back(revision);
          heard_.notify_all();
        })
        .value();
  }

  std::mutex mutex_;
  std::condition_variable heard_;
  std::vector<std::uint64_t> told_;
};

constexpr std::int32_t kDay = 20'000;

UsageRow row(const std::string& tenant, const std::string& key, const std::string& model,
             std::int32_t day, std::uint64_t n) {
  return {tenant, key, model, day, {n, 10 * n, 100 * n, 1000 * n, 10'000 * n}};
}

TEST_P(UsageContract, ABatchCountsOnceHoweverOftenItComes) {
  const std::vector<UsageRow> rows = {row("a", "k", "m", kDay, 1), row("a", "k", "m", kDay, 2)};
  EXPECT_TRUE(catalog_->add_usage("b1", rows, kNow).value());
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(catalog_->add_usage("b1", rows, kNow).value());
  EXPECT_TRUE(catalog_->add_usage("b2", rows, kNow).value());

  UsageQuery query;
  query.first_day = query.last_day = kDay;
  const auto sums = catalog_->usage(query).value();

  ASSERT_EQ(sums.size(), 1u);
  EXPECT_EQ(sums[0].day, kDay);
  EXPECT_EQ(sums[0].counts, row("", "", "", 0, 6).counts);
}

TEST_P(UsageContract, SumsByWhateverIsAsked) {
  ASSERT_TRUE(catalog_->create_tenant("a", "", change_));
  const std::string key =
      catalog_->create_key({"a", "", Role::kInference, {}, 0}, "0123456789abcdef", change_)
          .value()
          .id;
  const std::vector<UsageRow> rows = {
      row("a", key, "m", kDay, 1),      row("a", key, "n", kDay + 1, 2),
      row("a", "k2", "m", kDay + 1, 4), row("b", "k3", "m", kDay + 1, 8),
      row("", "", "", kDay + 2, 16),    row("b", "k3", "n", kDay + 100, 32)};
  ASSERT_TRUE(catalog_->add_usage("b1", rows, kNow));
  const auto ask = [this](UsageBy by, const std::string& tenant, const std::string& key_id,
                          const std::string& model) {
    std::map<std::string, std::uint64_t> requests;
    const auto sums = catalog_->usage({tenant, key_id, model, kDay, kDay + 99, by}).value();
    for (const UsageSum& sum : sums) {
      requests[sum.group.empty() ? std::to_string(sum.day) : sum.group] = sum.counts.requests;
    }
    return requests;
  };
  using Sums = std::map<std::string, std::uint64_t>;
  EXPECT_EQ(ask(UsageBy::kTotal, "", "", ""), (Sums{{"0", 31}}));
  EXPECT_EQ(ask(UsageBy::kTotal, "z", "", ""), (Sums{{"0", 0}}));
  EXPECT_EQ(ask(UsageBy::kDay, "", "", ""), (Sums{{"20000", 1}, {"20001", 14}, {"20002", 16}}));
  EXPECT_EQ(ask(UsageBy::kDay, "a", "", ""), (Sums{{"20000", 1}, {"20001", 6}}));
  EXPECT_EQ(ask(UsageBy::kDay, "a", "", "m"), (Sums{{"20000", 1}, {"20001", 4}}));
  EXPECT_EQ(ask(UsageBy::kDay, "", "", "m"), (Sums{{"20000", 1}, {"20001", 12}}));
  EXPECT_EQ(ask(UsageBy::kDay, "a", key, ""), (Sums{{"20000", 1}, {"20001", 2}}));
  EXPECT_EQ(ask(UsageBy::kDay, "", key, ""), (Sums{{"20000", 1}, {"20001", 2}}));
  EXPECT_EQ(ask(UsageBy::kDay, "", key, "n"), (Sums{{"20001", 2}}));
  EXPECT_EQ(ask(UsageBy::kDay, "", "key-unknown", ""), Sums{});
  EXPECT_EQ(ask(UsageBy::kModel, "", "", ""), (Sums{{"m", 13}, {"n", 2}, {"-", 16}}));
  EXPECT_EQ(ask(UsageBy::kModel, "a", "", ""), (Sums{{"m", 5}, {"n", 2}}));
  EXPECT_EQ(ask(UsageBy::kKey, "a", "", ""), (Sums{{key, 3}, {"k2", 4}}));
  EXPECT_EQ(ask(UsageBy::kKey, "a", "", "m"), (Sums{{key, 1}, {"k2", 4}}));
  EXPECT_EQ(ask(UsageBy::kTenant, "", "", ""), (Sums{{"a", 7}, {"b", 8}, {"-", 16}}));
  EXPECT_EQ(ask(UsageBy::kTenant, "", "", "n"), (Sums{{"a", 2}}));
}

TEST_P(UsageContract, RefusesUsageThatIsNone) {
  const auto add = [this](const std::string& id, UsageRow bad) {
    return code_of(catalog_->add_usage(id, {&bad, 1}, kNow));
  };
  const UsageRow good = row("a", "k", "m", kDay, 1);
  EXPECT_EQ(add("", good), ErrorCode::kInvalidArgument);
  EXPECT_EQ(add(std::string(129, 'b'), good), ErrorCode::kInvalidArgument);
  EXPECT_EQ(add("b", row("\xff", "k", "m", kDay, 1)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(add("b", row("a", "k", std::string(257, 'm'), kDay, 1)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(add("b", row("a", "k", "m", -1, 1)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(add("b", row("a", "k", "m", kDay, std::uint64_t{1} << 49)),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(catalog_->add_usage("b", std::vector<UsageRow>(kUsageRowsMax + 1), kNow)),
            ErrorCode::kInvalidArgument);
  const auto ask = [this](UsageQuery query) { return code_of(catalog_->usage(query)); };
  EXPECT_EQ(ask({"", "", "", 2, 1, UsageBy::kDay}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(ask({"", "", "", INT32_MIN, INT32_MAX, UsageBy::kDay}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(ask({"", "", "", 1, 1, UsageBy::kKey}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(ask({"\xff", "", "", 1, 1, UsageBy::kDay}), ErrorCode::kInvalidArgument);
  EXPECT_EQ(ask({"' OR ''='", "", "", 1, 1, UsageBy::kDay}), ErrorCode{});
}

TEST_P(UsageContract, ForgetsOldBatchIds) {
  const std::vector<UsageRow> rows = {row("a", "k", "m", kDay, 1)};
  ASSERT_TRUE(catalog_->add_usage("old", rows, kNow).value());
  ASSERT_TRUE(catalog_->add_usage("next", rows, kNow + Usage::kBatchKeptMs).value());
  EXPECT_FALSE(catalog_->add_usage("old", rows, kNow).value());
  ASSERT_TRUE(catalog_->add_usage("late", rows, kNow + Usage::kBatchKeptMs + 1).value());
  EXPECT_TRUE(catalog_->add_usage("old", rows, kNow).value());
}

TEST_P(AuditContract, EveryChangeIsThereWithBeforeAndAfter) {
  add("m", 1);
  ASSERT_TRUE(catalog_->move_alias({"m", "x", 1, {}}, by("alice")));
  ASSERT_TRUE(catalog_->record_event({"expert.refused", "m:1", R"({"layer":3})"}, by("worker-1")));

  const AuditPage page = catalog_->audit({}).value();

  ASSERT_EQ(page.records.size(), 4u);
  EXPECT_FALSE(page.more);
  EXPECT_EQ(page.records[0].action, "model.create");
  EXPECT_EQ(page.records[1].action, "version.add");
  EXPECT_EQ(page.records[1].before, "");
  const AuditRecord& moved = page.records[2];
  EXPECT_EQ(moved.sequence, 3u);
  EXPECT_EQ(moved.actor, "alice");
  EXPECT_EQ(moved.request_id, "request-1");
  EXPECT_EQ(moved.action, "alias.move");
  EXPECT_EQ(moved.subject, "m@x");
  EXPECT_EQ(moved.before, "");
  EXPECT_EQ(to_json(moved).at("after").at("version").as_int64(), 1);
  EXPECT_EQ(moved.at_unix_ms, kNow);
  EXPECT_EQ(page.records[3].subject, "m:1");
  EXPECT_EQ(revision(), 4u);
  EXPECT_EQ(catalog_->verify_audit({}).value().records, 4u);
}

TEST_P(AuditContract, IsReadInPagesAndByWhatIsAsked) {
  add("m", 1);
  add("m", 2);
  for (std::uint32_t i = 0; i < 10; ++i) {
    ASSERT_TRUE(catalog_->move_alias({"m", "x", 1 + i % 2, {}}, by(i < 5 ? "a" : "b")));
  }
  AuditQuery query;
  query.limit = 4;
  std::uint64_t count = 0;
  for (bool more = true; more; count += 4) {
    const AuditPage page = catalog_->audit(query).value();
    more = page.more;
    ASSERT_FALSE(page.records.empty());
    EXPECT_EQ(page.records.front().sequence, query.after + 1);
    query.after = page.records.back().sequence;
  }
  EXPECT_EQ(query.after, 13u);
  const auto found = [this](const std::string& actor, const std::string& action,
                            const std::string& subject) {
    return catalog_->audit({0, 1000, actor, action, subject}).value().records.size();
  };
  EXPECT_EQ(found("a", "", ""), 5u);
  EXPECT_EQ(found("", "alias.move", ""), 10u);
  EXPECT_EQ(found("b", "alias.*", "m@x"), 5u);
  EXPECT_EQ(found("", "version.*", ""), 2u);
  EXPECT_EQ(found("", "", "m:2"), 1u);
  EXPECT_EQ(found("' OR 1=1 --", "", ""), 0u);
  EXPECT_EQ(code_of(catalog_->audit({0, 0, "", "", ""})), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(catalog_->record_event({"x", "y", "{"}, change_)), ErrorCode::kInvalidArgument);
}

TEST_P(AuditContract, AWalkCanBeEnded) {
  for (int i = 0; i < 1100; ++i) {
    ASSERT_TRUE(catalog_->record_event({"event", "e", ""}, change_));
  }
  EXPECT_EQ(code_of(catalog_->verify_audit([](std::uint64_t) { return false; })),
            ErrorCode::kCancelled);
  EXPECT_EQ(catalog_->verify_audit([](std::uint64_t) { return true; }).value().records, 1100u);
}

TEST_P(WatchContract, HearsOfTheStateNowAndOfEveryChange) {
  add("m", 1);
  const auto watching = watch(*catalog_);
  await(revision());
  const auto other = GetParam().shared ? open() : nullptr;
  for (std::uint8_t i = 2; i < 6; ++i) {
    Catalog& by_turns = other != nullptr && i % 2 == 0 ? *other : *catalog_;
    ASSERT_TRUE(by_turns.add_version(made_scan("m", i), {"/m", {}, false, {}}, change_));
    await(revision());
  }
  const std::scoped_lock lock(mutex_);
  EXPECT_TRUE(std::is_sorted(told_.begin(), told_.end()));
  EXPECT_EQ(told_.back(), revision());
}

// Two registries move one alias 1,000 times, each only from where it thinks it is, and register the
// same and different bytes: no update is lost, and nothing is there twice.
TEST_P(SharedContract, TwoCatalogsLoseNoUpdate) {
  add("m", 1);
  add("m", 2);
  ASSERT_TRUE(catalog_->move_alias({"m", "x", 1, {}}, change_));
  constexpr int kMoves = 500;
  constexpr std::uint8_t kFirst = 10, kLast = 60;
  std::atomic<int> failures = 0;
  const auto play = [&](const std::string& actor) {
    const auto catalog = open();
    const Change mine = by(actor);
    for (int moves = 0; moves < kMoves;) {
      const auto alias = catalog->find_alias("m", "x");
      if (!alias) break;
      const std::uint32_t next = alias->version == 1 ? 2 : 1;
      const auto moved = catalog->move_alias({"m", "x", next, alias->version}, mine);
      if (moved) {
        ++moves;
      } else if (!is_conflict(moved.error())) {
        ADD_FAILURE() << moved.error().to_string();
        ++failures;
        break;
      }
      const auto seed = static_cast<std::uint8_t>(kFirst + moves % (kLast - kFirst));
      if (!catalog->add_version(made_scan("r", seed), {"/" + actor, {}, false, {}}, mine)) {
        ++failures;
      }
    }
  };
  std::thread other(play, "b");
  play("a");
  other.join();

  EXPECT_EQ(failures, 0);
  const auto moves = catalog_->audit({0, 1000, "a", "alias.move", ""}).value().records.size() +
                     catalog_->audit({0, 1000, "b", "alias.move", ""}).value().records.size();
  EXPECT_EQ(moves, 2u * kMoves);
  std::set<std::string> sums;
  const auto list = catalog_->list({"r:1000", 1000}).value();
  for (const auto& record : list.models) sums.insert(record.model.sha256);
  EXPECT_EQ(list.models.size(), std::size_t{kLast - kFirst});
  EXPECT_EQ(sums.size(), list.models.size());
  EXPECT_EQ(list.models.front().model.version, list.models.size());  // no gaps
  const AuditCheck check = catalog_->verify_audit({}).value();
  EXPECT_EQ(check.problem, "");
  EXPECT_EQ(check.records, revision());
}

TEST_P(SharedContract, OneOfManyGetsALease) {
  std::atomic<int> granted = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const auto catalog = open();
      const std::string holder = "h" + std::to_string(i);
      const auto lease = catalog->acquire_lease("leader", holder, 1000, kNow);
      if (lease && lease->holder == holder) ++granted;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(granted, 1);
}

TEST_P(SharedContract, OneCatalogServesManyThreads) {
  std::vector<std::thread> threads;
  std::atomic<int> added = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < 20; ++n) {
        const UsageRow one = row("t", "k", "m", kDay, 1);
        const std::string id = std::to_string(i / 2) + "." + std::to_string(n);
        const auto done = catalog_->add_usage(id, {&one, 1}, kNow);
        EXPECT_TRUE(done) << done.error().to_string();
        if (done && *done) ++added;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(added, 80);
  UsageQuery query{"t", "", "", kDay, kDay, UsageBy::kTotal};
  EXPECT_EQ(catalog_->usage(query).value().at(0).counts.requests, 80u);
}

INSTANTIATE_TEST_SUITE_P(Stores, UsageContract, testing::ValuesIn(test::stores()), test::name_of);
INSTANTIATE_TEST_SUITE_P(Stores, AuditContract, testing::ValuesIn(test::stores()), test::name_of);
INSTANTIATE_TEST_SUITE_P(Stores, WatchContract, testing::ValuesIn(test::stores()), test::name_of);
INSTANTIATE_TEST_SUITE_P(Stores, SharedContract, testing::ValuesIn(shared_stores()), test::name_of);

}  // namespace
}  // namespace conclave::catalog
