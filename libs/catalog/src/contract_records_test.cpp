// Deployments, tenants, keys, quotas and leases.
#include "conclave/catalog/access.hpp"
#include "conclave/wire/limits.hpp"
#include "contract.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using test::code_of;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using DeploymentsContract = test::ContractTest;
using AccessContract = test::ContractTest;
using LeasesContract = test::ContractTest;

Deployment everything() {
  Deployment deployment;
  deployment.name = "chat";
  deployment.split = {{"m@stable", 90}, {"m:2", 10}};
  deployment.sticky = Stickiness::kUser;
  deployment.shadow = "m:3";
  deployment.shadow_percent = 5;
  deployment.pins = {{"cuda", 0, 3, 0, UINT32_MAX}, {"cpu", 4, UINT32_MAX, 7, 7}};
  deployment.replica_floor = 2;
  deployment.policy = DegradedPolicy::kNextBest;
  return deployment;
}

TEST_P(DeploymentsContract, GivesBackEveryFieldThatWasPut) {
  add("m", 1, {"stable"});
  add("m", 2);
  add("m", 3);
  Deployment expected = everything();

  const auto put = catalog_->put_deployment(expected, by("tester", 0));

  ASSERT_TRUE(put) << put.error().to_string();
  expected.created_unix_ms = expected.updated_unix_ms = kNow;
  expected.revision = put->revision;
  EXPECT_EQ(*put, expected);
  EXPECT_EQ(catalog_->find_deployment("chat").value(), expected);
  EXPECT_THAT(catalog_->list_deployments().value(), ElementsAre(expected));
  EXPECT_EQ(catalog_->put_deployment(everything(), change_).value(), expected);  // nothing changes
  EXPECT_EQ(revision(), expected.revision);
  EXPECT_TRUE(is_conflict(catalog_->put_deployment(everything(), by("tester", 0)).error()));
  Deployment other = everything();
  other.policy = DegradedPolicy::kFail;
  EXPECT_GT(catalog_->put_deployment(other, by("tester", put->revision)).value().revision,
            put->revision);
  EXPECT_TRUE(catalog_->remove_deployment("chat", change_));
  EXPECT_EQ(code_of(catalog_->find_deployment("chat")), ErrorCode::kNotFound);
}

TEST_P(DeploymentsContract, WhatIsServedCannotBeTakenAway) {
  add("m", 1, {"stable"});
  add("m", 2);
  add("m", 3);
  ASSERT_TRUE(catalog_->put_deployment(everything(), change_));

  for (const auto& refused :
       {code_of(catalog_->archive("m", 2, change_)), code_of(catalog_->archive("m", 3, change_)),
        code_of(catalog_->remove_alias("m", "stable", change_))}) {
    EXPECT_EQ(refused, ErrorCode::kFailedPrecondition);
  }
  EXPECT_THAT(catalog_->archive("m", 2, change_).error().message, HasSubstr("chat"));
  EXPECT_EQ(catalog_->find_version("m", 2).value().state, VersionState::kPublished);
  // The alias may move, and the version that it pointed at may be archived then.
  ASSERT_TRUE(catalog_->move_alias({"m", "stable", 3, {}}, change_));
  EXPECT_TRUE(catalog_->archive("m", 1, change_));
}

TEST_P(DeploymentsContract, RefusesWhatCannotBeServed) {
  add("m", 1, {"stable"});
  add("m", 2);
  add_draft("m", 3);
  const auto put_with = [this](auto change) {
    Deployment deployment = everything();
    deployment.shadow.clear();
    change(deployment);
    return code_of(catalog_->put_deployment(deployment, change_));
  };
  EXPECT_EQ(put_with([](Deployment&) {}), ErrorCode{});
  EXPECT_EQ(put_with([](Deployment& d) { d.split[0].reference = "z"; }), ErrorCode::kNotFound);
  EXPECT_EQ(put_with([](Deployment& d) { d.shadow = "m:3"; }), ErrorCode::kFailedPrecondition);
  for (const auto& bad : std::vector<std::function<void(Deployment&)>>{
           [](Deployment& d) { d.name = "A b"; }, [](Deployment& d) { d.split.clear(); },
           [](Deployment& d) { d.split[0].weight = 0; },
           [](Deployment& d) { d.split[0].weight = 1'000'001; },
           [](Deployment& d) { d.split[0].reference = "a b"; },
           [](Deployment& d) { d.split[1] = d.split[0]; },
           [](Deployment& d) { d.split.resize(kSplitsMax + 1); },
           [](Deployment& d) { d.shadow_percent = 101; },
           [](Deployment& d) { d.pins[0].worker_group = "'"; },
           [](Deployment& d) { d.pins[0].first_layer = 4; },
           [](Deployment& d) { d.pins.resize(kPinsMax + 1, d.pins[0]); },
           [](Deployment& d) { d.replica_floor = 65; }}) {
    EXPECT_EQ(put_with(bad), ErrorCode::kInvalidArgument);
  }
}

TEST_P(AccessContract, AKeyIsFoundByItsSecretAndIsNeverStoredWithIt) {
  ASSERT_TRUE(catalog_->create_tenant("acme", "Acme Ltd", change_));
  EXPECT_EQ(code_of(catalog_->create_tenant("acme", "", change_)), ErrorCode::kFailedPrecondition);
  const std::string secret = make_secret();
  const NewApiKey wanted{"acme", "ci", Role::kRead, {"chat", "m"}, kNow + 1000};

  const ApiKey key = catalog_->create_key(wanted, secret, change_).value();

  EXPECT_EQ(catalog_->find_key_by_hash(secret_hash(secret)).value(), key);
  EXPECT_EQ(catalog_->find_key(key.id).value(), key);
  EXPECT_EQ(key.tenant, "acme");
  EXPECT_EQ(key.role, Role::kRead);
  EXPECT_THAT(key.models, ElementsAre("chat", "m"));
  EXPECT_TRUE(secret.starts_with(key.prefix));
  EXPECT_LT(key.prefix.size(), secret.size() / 2);
  EXPECT_TRUE(may_use(key, "m"));
  EXPECT_FALSE(may_use(key, "other"));
  EXPECT_TRUE(usable(key, kNow));
  EXPECT_FALSE(usable(key, kNow + 1000));
  EXPECT_EQ(code_of(catalog_->find_key_by_hash(secret_hash(make_secret()))), ErrorCode::kNotFound);
  EXPECT_EQ(code_of(catalog_->create_key(wanted, secret, change_)), ErrorCode::kFailedPrecondition);
  const AuditPage audit = catalog_->audit({}).value();
  for (const AuditRecord& record : audit.records) {
    EXPECT_EQ(record.after.find(secret.substr(key.prefix.size())), std::string::npos);
  }
}

TEST_P(AccessContract, ARevokedKeyStaysRevoked) {
  ASSERT_TRUE(catalog_->create_tenant("acme", "", change_));
  const std::string secret = make_secret();
  const ApiKey key =
      catalog_->create_key({"acme", "", Role::kAdmin, {}, 0}, secret, change_).value();

  const ApiKey revoked = catalog_->revoke_key(key.id, change_).value();

  EXPECT_EQ(revoked.revoked_unix_ms, kNow);
  EXPECT_FALSE(usable(revoked, kNow));
  EXPECT_EQ(catalog_->revoke_key(key.id, change_).value(), revoked);
  EXPECT_EQ(catalog_->find_key_by_hash(secret_hash(secret)).value(), revoked);
  EXPECT_EQ(code_of(catalog_->ensure_key({"acme", "", Role::kAdmin, {}, 0}, secret, change_)),
            ErrorCode::kFailedPrecondition);
  EXPECT_EQ(code_of(catalog_->revoke_key("key-0", change_)), ErrorCode::kNotFound);
}

TEST_P(AccessContract, EnsuresAKeyOnce) {
  const NewApiKey wanted{"system", "bootstrap", Role::kAdmin, {}, 0};
  const ApiKey key = catalog_->ensure_key(wanted, "0123456789abcdef", change_).value();
  const std::uint64_t before = revision();
  EXPECT_EQ(catalog_->ensure_key(wanted, "0123456789abcdef", change_).value(), key);
  EXPECT_EQ(revision(), before);
  NewApiKey other = wanted;
  other.role = Role::kRead;
  EXPECT_EQ(code_of(catalog_->ensure_key(other, "0123456789abcdef", change_)),
            ErrorCode::kFailedPrecondition);
}

TEST_P(AccessContract, RefusesKeysThatAreNone) {
  ASSERT_TRUE(catalog_->create_tenant("acme", "", change_));
  const std::string secret = make_secret();
  const auto create = [this](NewApiKey key, std::string_view with) {
    return code_of(catalog_->create_key(key, with, change_));
  };
  EXPECT_EQ(create({"nobody", "", Role::kRead, {}, 0}, secret), ErrorCode::kNotFound);
  for (const auto& bad :
       {create({"a b", "", Role::kRead, {}, 0}, secret),
        create({"acme", "\xff", Role::kRead, {}, 0}, secret),
        create({"acme", "", Role::kRead, {"'"}, 0}, secret),
        create({"acme", "", Role::kRead, {}, -1}, secret),
        create({"acme", "", Role::kRead, {}, 0}, "short"),
        create({"acme", "", Role::kRead, {}, 0}, std::string(257, 'a')),
        create({"acme", "", Role::kRead, std::vector<std::string>(kKeyModelsMax + 1, "m"), 0},
               secret)}) {
    EXPECT_EQ(bad, ErrorCode::kInvalidArgument);
  }
  EXPECT_THAT(catalog_->list_keys("", "", 10).value(), IsEmpty());
}

TEST_P(AccessContract, ListsInPages) {
  for (const char* tenant : {"b", "a"}) {
    ASSERT_TRUE(catalog_->create_tenant(tenant, "", change_));
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(catalog_->create_key({tenant, "", Role::kRead, {}, 0}, make_secret(), change_));
    }
  }
  EXPECT_EQ(catalog_->list_tenants("", 10).value().front().name, "a");
  EXPECT_EQ(catalog_->list_tenants("a", 10).value().size(), 1u);
  const auto all = catalog_->list_keys("", "", 10).value();
  EXPECT_EQ(all.size(), 6u);
  EXPECT_EQ(catalog_->list_keys("", all[3].id, 10).value().size(), 2u);
  const auto of_a = catalog_->list_keys("a", "", 2).value();
  ASSERT_EQ(of_a.size(), 2u);
  EXPECT_EQ(of_a[0].tenant, "a");
  EXPECT_EQ(catalog_->list_keys("a", of_a[1].id, 2).value().size(), 1u);
}

TEST_P(AccessContract, ATenantWithoutAQuotaHasNoLimits) {
  ASSERT_TRUE(catalog_->create_tenant("acme", "", change_));
  EXPECT_EQ(catalog_->find_quota("acme").value(), (Quota{"acme", 0, 0, 0, 0, 0, 0}));
  Quota quota{"acme", 60, 1000, 1'000'000, INT64_MAX, 8, 0};
  const Quota put = catalog_->put_quota(quota, by("tester", 0)).value();
  quota.revision = put.revision;
  EXPECT_EQ(put, quota);
  EXPECT_EQ(catalog_->find_quota("acme").value(), quota);
  quota.tokens_per_day = std::uint64_t{1} << 63;
  EXPECT_EQ(code_of(catalog_->put_quota(quota, change_)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(catalog_->find_quota("nobody")), ErrorCode::kNotFound);
  EXPECT_EQ(code_of(catalog_->put_quota({"nobody"}, change_)), ErrorCode::kNotFound);
}

TEST_P(LeasesContract, OneHoldsItUntilItLapses) {
  EXPECT_EQ(code_of(catalog_->find_lease("leader", kNow)), ErrorCode::kNotFound);
  const Lease first = catalog_->acquire_lease("leader", "a/1", 1000, kNow).value();
  EXPECT_EQ(first, (Lease{"leader", "a/1", 1, kNow + 1000}));

  EXPECT_EQ(catalog_->acquire_lease("leader", "b/1", 1000, kNow + 999).value(), first);
  const Lease renewed = catalog_->renew_lease(first, 1000, kNow + 500).value();
  EXPECT_EQ(renewed, (Lease{"leader", "a/1", 1, kNow + 1500}));
  EXPECT_EQ(catalog_->acquire_lease("leader", "b/1", 1000, kNow + 1499).value(), renewed);
  EXPECT_EQ(catalog_->find_lease("leader", kNow + 1500).value().holder, "");

  const Lease second = catalog_->acquire_lease("leader", "b/1", 1000, kNow + 1500).value();
  EXPECT_EQ(second, (Lease{"leader", "b/1", 2, kNow + 2500}));
  EXPECT_EQ(code_of(catalog_->renew_lease(first, 1000, kNow + 1600)),
            ErrorCode::kFailedPrecondition);
  ASSERT_TRUE(catalog_->release_lease(first));  // not any more: nothing happens
  EXPECT_EQ(catalog_->find_lease("leader", kNow + 1600).value(), second);
  EXPECT_EQ(code_of(catalog_->renew_lease(second, 1000, kNow + 2500)),
            ErrorCode::kFailedPrecondition);
  EXPECT_EQ(revision(), 0u);
}

TEST_P(LeasesContract, ATokenOnlyRises) {
  std::uint64_t last = 0;
  for (int i = 0; i < 20; ++i) {
    const Lease lease =
        catalog_->acquire_lease("leader", "h" + std::to_string(i % 2), 100, kNow + i).value();
    EXPECT_EQ(lease.token, last + 1);
    last = lease.token;
    ASSERT_TRUE(catalog_->release_lease(lease));
  }
  EXPECT_EQ(catalog_->acquire_lease("leader", "a", 100, kNow).value().token, last + 1);
  EXPECT_EQ(catalog_->acquire_lease("leader", "a", 100, kNow + 50).value().token, last + 1);
}

TEST_P(LeasesContract, KeepsAStateForWhoeverHoldsIt) {
  EXPECT_EQ(catalog_->find_lease_state("leader").value(), LeaseState{});
  EXPECT_EQ(code_of(catalog_->put_lease_state("leader", 1, 0, "x")),
            ErrorCode::kFailedPrecondition);  // nobody ever had the lease
  const Lease first = catalog_->acquire_lease("leader", "a", 100, kNow).value();
  const std::string bytes("cordoned\0 and pinned", 20);

  EXPECT_EQ(catalog_->put_lease_state("leader", first.token, 0, bytes).value(), 1u);
  EXPECT_EQ(catalog_->find_lease_state("leader").value(), (LeaseState{1, bytes}));
  EXPECT_EQ(catalog_->put_lease_state("leader", first.token, 1, "").value(), 2u);
  EXPECT_EQ(code_of(catalog_->put_lease_state("leader", first.token, 0, "y")),
            ErrorCode::kFailedPrecondition);  // it has changed since it was read

  const Lease second = catalog_->acquire_lease("leader", "b", 100, kNow + 100).value();
  EXPECT_EQ(code_of(catalog_->put_lease_state("leader", first.token, 2, "late")),
            ErrorCode::kFailedPrecondition);
  EXPECT_EQ(catalog_->put_lease_state("leader", second.token, 2, "b's").value(), 3u);
  EXPECT_EQ(catalog_->find_lease_state("leader").value(), (LeaseState{3, "b's"}));
  EXPECT_EQ(code_of(catalog_->put_lease_state("leader", second.token, 3,
                                              std::string(wire::kStateBytesMax + 1, 'x'))),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(revision(), 0u);
}

TEST_P(LeasesContract, RefusesLeasesThatAreNone) {
  for (const auto& bad : {code_of(catalog_->acquire_lease("A", "h", 1, kNow)),
                          code_of(catalog_->acquire_lease("a", "", 1, kNow)),
                          code_of(catalog_->acquire_lease("a", "h", 0, kNow)),
                          code_of(catalog_->acquire_lease("a", "h", 3'600'001, kNow)),
                          code_of(catalog_->acquire_lease("a", std::string(257, 'h'), 1, kNow))}) {
    EXPECT_EQ(bad, ErrorCode::kInvalidArgument);
  }
}

INSTANTIATE_TEST_SUITE_P(Stores, DeploymentsContract, testing::ValuesIn(test::stores()),
                         test::name_of);
INSTANTIATE_TEST_SUITE_P(Stores, AccessContract, testing::ValuesIn(test::stores()), test::name_of);
INSTANTIATE_TEST_SUITE_P(Stores, LeasesContract, testing::ValuesIn(test::stores()), test::name_of);

}  // namespace
}  // namespace conclave::catalog
