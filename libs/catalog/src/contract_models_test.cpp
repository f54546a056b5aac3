// Models, versions and aliases.
#include <filesystem>

#include "conclave/wire/limits.hpp"
#include "contract.hpp"

namespace conclave::catalog {
namespace {

using base::ErrorCode;
using test::code_of;
using test::made_scan;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

class ModelsContract : public test::ContractTest {
 protected:
  std::vector<std::string> listed(const std::string& after, std::uint32_t limit,
                                  bool* more = nullptr) {
    const wire::ModelList list = catalog_->list({after, limit}).value();
    std::vector<std::string> names;
    for (const auto& record : list.models) {
      names.push_back(record.model.name + ":" + std::to_string(record.model.version));
    }
    if (more != nullptr) *more = list.more;
    return names;
  }

  ErrorCode resolve_error(const std::string& reference) {
    return code_of(catalog_->resolve(reference));
  }

  base::Result<Alias> move(const std::string& model, const std::string& alias,
                           std::uint32_t version) {
    return catalog_->move_alias({model, alias, version, {}}, change_);
  }
};

TEST_P(ModelsContract, GivesBackEveryFieldThatWasAdded) {
  const ModelScan scan = made_scan("qwen", 1);

  NewVersion version{"/models/q.gguf", {"b", "a"}, false, {}};
  version.notes = {"good", "Apache-2.0", "https://x/q.gguf", "base:3", R"({"loss":1.5})"};

  const auto added = catalog_->add_version(scan, version, change_);

  ASSERT_TRUE(added) << added.error().to_string();
  wire::ModelRecord expected = scan.record;
  expected.model.version = 1;
  expected.model.uri = "/models/q.gguf";
  expected.aliases = {"a", "b"};
  expected.created_unix_ms = kNow;
  EXPECT_EQ(added->record, expected);
  EXPECT_EQ(catalog_->resolve("qwen:1").value(), expected);
  EXPECT_EQ(added->state, VersionState::kPublished);
  EXPECT_EQ(added->notes, version.notes);
  EXPECT_EQ(added->chat_template, "{{ messages }}");
  EXPECT_THAT(added->uris, ElementsAre("/models/q.gguf"));
  EXPECT_EQ(added->published_unix_ms, kNow);
  EXPECT_EQ(catalog_->find_version("qwen", 1).value(), *added);
}

TEST_P(ModelsContract, NumbersVersionsOfEachNameFromOne) {
  EXPECT_EQ(add("m", 1).record.model.version, 1u);
  EXPECT_EQ(add("m", 2).record.model.version, 2u);
  EXPECT_EQ(add("n", 3).record.model.version, 1u);
}

TEST_P(ModelsContract, TheSameBytesAreTheSameVersionWhereverTheyLie) {
  add("m", 1, {"production"});
  add("m", 2);

  Change later = change_;
  later.now_unix_ms += 5;
  const auto again =
      catalog_->add_version(made_scan("m", 1), {"/elsewhere/m", {}, false, {}}, later).value();

  EXPECT_EQ(again.record.model.version, 1u);
  EXPECT_EQ(again.record.model.uri, "/elsewhere/m");
  EXPECT_THAT(again.uris, ElementsAre("/elsewhere/m", "/models/m"));
  EXPECT_EQ(again.record.created_unix_ms, kNow);
  EXPECT_THAT(again.record.aliases, ElementsAre("production"));
  EXPECT_EQ(listed("", 10).size(), 2u);
  EXPECT_EQ(add("other", 1).record.model.version, 1u);  // under another name they are another model
}

TEST_P(ModelsContract, ABareNameMeansProductionOrElseTheNewest) {
  add("m", 1);
  add("m", 2);
  EXPECT_EQ(catalog_->resolve("m").value().model.version, 2u);

  ASSERT_TRUE(move("m", "production", 1));

  EXPECT_EQ(catalog_->resolve("m").value().model.version, 1u);
  EXPECT_EQ(catalog_->resolve("m:2").value().model.version, 2u);
}

TEST_P(ModelsContract, AnAliasMovesAndPointsAtOneVersionOnly) {
  add("m", 1, {"canary"});
  add("m", 2);
  EXPECT_EQ(catalog_->resolve("m@canary").value().model.version, 1u);

  const auto moved = move("m", "canary", 2);

  ASSERT_TRUE(moved);
  EXPECT_EQ(moved->version, 2u);
  EXPECT_EQ(catalog_->find_alias("m", "canary").value(), *moved);
  EXPECT_THAT(catalog_->resolve("m:2").value().aliases, ElementsAre("canary"));
  EXPECT_EQ(catalog_->resolve("m@canary").value().model.version, 2u);
  EXPECT_THAT(catalog_->resolve("m:1").value().aliases, IsEmpty());
}

TEST_P(ModelsContract, WhatIsNotThereIsNotFound) {
  add("m", 1, {"canary"});
  for (const char* reference : {"n", "m:2", "m@production", "n@canary"}) {
    EXPECT_EQ(resolve_error(reference), ErrorCode::kNotFound) << reference;
  }
  EXPECT_EQ(move("m", "x", 2).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(move("m", "x", 0).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(move("n", "x", 1).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(catalog_->digests({"m", 2}).error().code, ErrorCode::kNotFound);
  EXPECT_THAT(catalog_->resolve("n").error().message, HasSubstr("'n'"));
}

TEST_P(ModelsContract, RefusesNamesThatAreNone) {
  add("m", 1);
  EXPECT_EQ(resolve_error("M"), ErrorCode::kInvalidArgument);
  EXPECT_EQ(try_add("a b", 1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(try_add("m", 2, {"a:b"}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(move("m", "", 1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(move("'; DROP TABLE model; --", "x", 1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(listed("", 10), ElementsAre("m:1"));
}

TEST_P(ModelsContract, ARefusedAddLeavesNothingBehind) {
  std::vector<std::string> too_many;
  for (std::size_t i = 0; i <= kAliasesMax; ++i) too_many.push_back("a" + std::to_string(i));

  const auto refused = try_add("m", 1, too_many);

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOverloaded);
  EXPECT_EQ(resolve_error("m"), ErrorCode::kNotFound);
  EXPECT_EQ(resolve_error("m@a0"), ErrorCode::kNotFound);
  too_many.pop_back();
  EXPECT_EQ(revision(), 0u);
  EXPECT_TRUE(try_add("m", 1, too_many));
}

TEST_P(ModelsContract, ListsByNameAndFallingVersionInPages) {
  add("b", 1);
  add("a", 2);
  add("b", 3);
  add("a-2", 4, {"production"});
  bool more = false;

  EXPECT_THAT(listed("", 3, &more), ElementsAre("a:1", "a-2:1", "b:2"));
  EXPECT_TRUE(more);
  EXPECT_THAT(listed("b:2", 3, &more), ElementsAre("b:1"));
  EXPECT_FALSE(more);
  EXPECT_THAT(listed("", 4, &more), ElementsAre("a:1", "a-2:1", "b:2", "b:1"));
  EXPECT_FALSE(more);
  EXPECT_THAT(listed("a:5", 1), ElementsAre("a:1"));  // a page may start after what is not there
  EXPECT_THAT(listed("b:1", 3), IsEmpty());
  EXPECT_THAT(catalog_->list({"a:1", 1}).value().models.front().aliases, ElementsAre("production"));
}

TEST_P(ModelsContract, RefusesPagesThatAreNone) {
  constexpr auto kTooMany = static_cast<std::uint32_t>(wire::kListMax) + 1;
  EXPECT_EQ(catalog_->list({"", 0}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(catalog_->list({"", kTooMany}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(catalog_->list({"m", 10}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(catalog_->list({"m@x", 10}).error().code, ErrorCode::kInvalidArgument);
}

TEST_P(ModelsContract, GivesBackTheSumsOfAVersion) {
  const ModelScan scan = made_scan("m", 7);
  const auto record = add("m", 7);

  const auto digests = catalog_->digests({"m", 1});

  ASSERT_TRUE(digests) << digests.error().to_string();
  wire::ModelDigests expected = scan.digests;
  expected.model = record.record.model;
  EXPECT_EQ(*digests, expected);
}

TEST_P(ModelsContract, ADraftServesNothingUntilItIsPublished) {
  const Version draft = add_draft("m", 1);
  EXPECT_EQ(draft.state, VersionState::kDraft);
  EXPECT_EQ(resolve_error("m"), ErrorCode::kNotFound);
  EXPECT_EQ(resolve_error("m:1"), ErrorCode::kFailedPrecondition);
  EXPECT_THAT(listed("", 10), IsEmpty());
  EXPECT_EQ(code_of(move("m", "x", 1)), ErrorCode::kFailedPrecondition);
  EXPECT_EQ(code_of(try_add("m", 2, {"x"}, true)), ErrorCode::kInvalidArgument);

  VersionNotes notes;
  notes.description = "tuned";
  EXPECT_EQ(catalog_->edit_draft("m", 1, notes, change_).value().notes, notes);
  const auto published = catalog_->publish("m", 1, change_);

  ASSERT_TRUE(published) << published.error().to_string();
  EXPECT_EQ(published->state, VersionState::kPublished);
  EXPECT_GT(published->revision, draft.revision);
  EXPECT_EQ(catalog_->resolve("m").value().model.version, 1u);
  EXPECT_EQ(code_of(catalog_->edit_draft("m", 1, {}, change_)), ErrorCode::kFailedPrecondition);
  EXPECT_EQ(catalog_->find_version("m", 1).value().notes, notes);
}

TEST_P(ModelsContract, RegisteringADraftAgainPublishesIt) {
  add_draft("m", 1);
  EXPECT_EQ(add_draft("m", 1).state, VersionState::kDraft);
  EXPECT_EQ(add("m", 1, {"x"}).state, VersionState::kPublished);
  EXPECT_EQ(catalog_->resolve("m@x").value().model.version, 1u);
}

TEST_P(ModelsContract, AnArchivedVersionIsKeptButNothingNewPointsAtIt) {
  add("m", 1, {"x"});
  add("m", 2);
  EXPECT_EQ(code_of(catalog_->archive("m", 1, change_)), ErrorCode::kFailedPrecondition);
  ASSERT_TRUE(move("m", "x", 2));

  EXPECT_EQ(catalog_->archive("m", 1, change_).value().state, VersionState::kArchived);

  EXPECT_EQ(catalog_->resolve("m:1").value().model.version, 1u);  // what runs goes on
  EXPECT_EQ(code_of(move("m", "x", 1)), ErrorCode::kFailedPrecondition);
  EXPECT_THAT(listed("", 10), ElementsAre("m:2"));
  EXPECT_EQ(code_of(catalog_->archive("m", 2, change_)), ErrorCode::kFailedPrecondition);
  const Version back = catalog_->publish("m", 1, change_).value();
  EXPECT_EQ(back.archived_unix_ms, 0);
  EXPECT_TRUE(move("m", "x", 1));
}

TEST_P(ModelsContract, NumbersAreNeverUsedAgain) {
  add("m", 1);
  add("m", 2);
  EXPECT_EQ(code_of(catalog_->remove_version("m", 2, change_)), ErrorCode::kFailedPrecondition);
  ASSERT_TRUE(catalog_->archive("m", 2, change_));
  ASSERT_TRUE(catalog_->remove_version("m", 2, change_));
  EXPECT_EQ(code_of(catalog_->find_version("m", 2)), ErrorCode::kNotFound);
  EXPECT_EQ(code_of(catalog_->digests({"m", 2})), ErrorCode::kNotFound);
  EXPECT_EQ(add("m", 2).record.model.version, 3u);

  EXPECT_EQ(code_of(catalog_->remove_model("m", change_)), ErrorCode::kFailedPrecondition);
  ASSERT_TRUE(catalog_->archive("m", 1, change_));
  ASSERT_TRUE(catalog_->archive("m", 3, change_));
  const base::Status removed = catalog_->remove_model("m", change_);
  ASSERT_TRUE(removed) << removed.error().to_string();
  EXPECT_EQ(code_of(catalog_->find_model("m")), ErrorCode::kNotFound);
  EXPECT_EQ(code_of(catalog_->find_version("m", 1)), ErrorCode::kNotFound);
  EXPECT_THAT(catalog_->list_models("", 10).value().models, IsEmpty());
  EXPECT_EQ(add("m", 1).record.model.version, 4u);
  EXPECT_EQ(catalog_->find_model("m").value().versions, 1u);
}

TEST_P(ModelsContract, AModelHasTextsOfItsOwn) {
  const Model made = catalog_->create_model("m", {"first", {{{"team", "a"}}}}, change_).value();
  EXPECT_EQ(code_of(catalog_->create_model("m", {}, change_)), ErrorCode::kFailedPrecondition);
  EXPECT_EQ(made.newest, 0u);
  add("m", 1, {"x"});
  add_draft("m", 2);

  const auto edited =
      catalog_->edit_model("m", {"second", {}}, by("tester", made.revision)).value();

  EXPECT_EQ(edited.description, "second");
  EXPECT_THAT(edited.tags, ElementsAre(Pair("team", "a")));
  EXPECT_EQ(edited.newest, 1u);
  EXPECT_EQ(edited.versions, 2u);
  EXPECT_THAT(edited.aliases, ElementsAre(Pair("x", 1u)));
  EXPECT_EQ(catalog_->find_model("m").value(), edited);
  EXPECT_THAT(catalog_->list_models("", 10).value().models, ElementsAre(edited));
  const auto late = catalog_->edit_model("m", {"third", {}}, by("tester", made.revision));
  ASSERT_FALSE(late);
  EXPECT_TRUE(is_conflict(late.error())) << late.error().to_string();
}

TEST_P(ModelsContract, PagesModelsAndVersions) {
  for (const char* name : {"a", "b", "c"}) add(name, 1);
  add("b", 2, {"x"});
  add_draft("b", 3);
  const ModelPage first = catalog_->list_models("", 2).value();
  EXPECT_TRUE(first.more);
  ASSERT_EQ(first.models.size(), 2u);
  EXPECT_EQ(first.models[1].name, "b");
  EXPECT_FALSE(catalog_->list_models("b", 2).value().more);

  const VersionPage page = catalog_->list_versions("b", 0, 2).value();

  ASSERT_EQ(page.versions.size(), 2u);
  EXPECT_TRUE(page.more);
  EXPECT_EQ(page.versions[0].state, VersionState::kDraft);
  EXPECT_THAT(page.versions[1].record.aliases, ElementsAre("x"));
  EXPECT_EQ(catalog_->list_versions("b", 2, 2).value().versions.size(), 1u);
  EXPECT_EQ(code_of(catalog_->list_versions("z", 0, 2)), ErrorCode::kNotFound);
  EXPECT_EQ(code_of(catalog_->list_versions("b", 0, 0)), ErrorCode::kInvalidArgument);
}

TEST_P(ModelsContract, AnAliasMovesOnlyFromWhereItIsThoughtToBe) {
  add("m", 1);
  add("m", 2);
  const auto move_if = [this](std::uint32_t to, std::uint32_t from) {
    return catalog_->move_alias({"m", "x", to, from}, change_);
  };
  EXPECT_TRUE(is_conflict(move_if(2, 1).error()));
  const Alias first = move_if(1, 0).value();
  EXPECT_TRUE(is_conflict(move_if(2, 0).error()));
  EXPECT_TRUE(is_conflict(move_if(2, 2).error()));
  const Alias second = move_if(2, 1).value();
  EXPECT_GT(second.revision, first.revision);
  EXPECT_TRUE(
      is_conflict(catalog_->move_alias({"m", "x", 1, {}}, by("tester", first.revision)).error()));
  EXPECT_TRUE(catalog_->move_alias({"m", "x", 1, {}}, by("tester", second.revision)));
  EXPECT_TRUE(is_conflict(catalog_->remove_alias("m", "x", by("tester", 0)).error()));
  EXPECT_TRUE(catalog_->remove_alias("m", "x", change_));
  EXPECT_EQ(code_of(catalog_->remove_alias("m", "x", change_)), ErrorCode::kNotFound);
  EXPECT_THAT(catalog_->list_aliases("m").value(), IsEmpty());
}

TEST_P(ModelsContract, ADryRunAnswersAndDoesNothing) {
  const Version would =
      catalog_->add_version(made_scan("m", 1), {"/m", {"x"}, false, {}}, dry_run()).value();
  EXPECT_EQ(would.record.model.version, 1u);
  EXPECT_THAT(would.record.aliases, ElementsAre("x"));
  EXPECT_EQ(revision(), 0u);
  EXPECT_EQ(resolve_error("m"), ErrorCode::kNotFound);
  EXPECT_EQ(code_of(catalog_->publish("m", 1, dry_run())), ErrorCode::kNotFound);
}

// What nobody should write comes back as it went in, or is refused; nothing of it is SQL or JSON.
TEST_P(ModelsContract, KeepsHostileTextsAsTheyAre) {
  const std::string hostile[] = {"'; DROP TABLE model; --",
                                 "\" OR 1=1; --",
                                 "$1 $2 %s %n",
                                 "back\\slash ' quote \" both",
                                 "line\nline\ttab",
                                 "{\"a\":[1,2]}",
                                 "\\x00 \\000",
                                 "\xF0\x9F\x90\x98 \xD0\xB6",
                                 "/**/ UNION SELECT hash FROM api_key"};
  add("m", 1);
  for (const std::string& text : hostile) {
    const auto edited = catalog_->edit_model("m", {text, {{{"k" + text, text}}}}, by(text));
    ASSERT_TRUE(edited) << edited.error().to_string();
    const Model found = catalog_->find_model("m").value();
    EXPECT_EQ(found.description, text);
    EXPECT_THAT(found.tags, ElementsAre(Pair("k" + text, text)));
    AuditQuery query;
    query.actor = text;
    EXPECT_EQ(catalog_->audit(query).value().records.size(), 1u) << text;
    for (const std::string& name : {text, "m" + text}) {
      EXPECT_EQ(code_of(catalog_->find_model(name)), ErrorCode::kInvalidArgument) << name;
      EXPECT_EQ(code_of(catalog_->find_alias("m", name)), ErrorCode::kInvalidArgument) << name;
      EXPECT_EQ(resolve_error(name), ErrorCode::kInvalidArgument) << name;
    }
  }
  const std::string bad[] = {std::string("nul\0nul", 7), "\xff\xfe", "\xed\xa0\x80",
                             std::string(kTextBytesMax + 1, 'a')};
  for (const std::string& text : bad) {
    EXPECT_EQ(code_of(catalog_->edit_model("m", {text, {}}, change_)), ErrorCode::kInvalidArgument);
    EXPECT_EQ(code_of(catalog_->edit_model("m", {"x", {}}, by(text))), ErrorCode::kInvalidArgument);
    VersionNotes notes;
    notes.metadata = text;
    EXPECT_EQ(code_of(catalog_->add_version(made_scan("m", 2), {"/m", {}, true, notes}, change_)),
              ErrorCode::kInvalidArgument);
  }
  EXPECT_TRUE(catalog_->verify_audit({}).value().problem.empty());
}

INSTANTIATE_TEST_SUITE_P(Stores, ModelsContract, testing::ValuesIn(test::stores()), test::name_of);

}  // namespace
}  // namespace conclave::catalog
