#include "conclave/fabric/keys.hpp"

#include <gmock/gmock.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <string>

#include "link_password.hpp"

namespace conclave::fabric {
namespace {

using base::ErrorCode;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;
using wire::NodeRole;

class KeysTest : public ::testing::Test {
 protected:
  KeysTest() {
    std::string name = (std::filesystem::temp_directory_path() / "conclave-keys-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  ~KeysTest() override { std::filesystem::remove_all(directory_); }

  void write(const std::string& name, const std::string& text, mode_t mode = 0600) const {
    std::ofstream(directory_ / name) << text;
    ::chmod((directory_ / name).c_str(), mode);
  }
  [[nodiscard]] std::string read(const std::string& name) const {
    std::ifstream file(directory_ / name);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  [[nodiscard]] ErrorCode load_error() const {
    const auto ring = KeyRing::load(directory_, NodeRole::kRouter);
    EXPECT_FALSE(ring);
    return ring ? ErrorCode::kInternal : ring.error().code;
  }

  std::filesystem::path directory_;
};

TEST_F(KeysTest, WritesAPairForEveryRoleAndLoadsThem) {
  const auto written = write_keys(directory_ / "new" / "keys");
  ASSERT_TRUE(written) << written.error().to_string();
  EXPECT_THAT(*written, SizeIs(2 * wire::kNodeRoleCount));

  const auto ring = KeyRing::load(directory_ / "new" / "keys", NodeRole::kRouter);
  ASSERT_TRUE(ring) << ring.error().to_string();
  EXPECT_EQ(ring->role(), NodeRole::kRouter);
  EXPECT_THAT(ring->allowed(), SizeIs(wire::kNodeRoleCount));
  EXPECT_EQ(ring->role_of(ring->own().public_key), NodeRole::kRouter);
  EXPECT_EQ(ring->role_of(ring->server_key(NodeRole::kScheduler)), NodeRole::kScheduler);
  EXPECT_EQ(ring->role_of(generate_key_pair().public_key), std::nullopt);
}

TEST_F(KeysTest, KeepsSecretKeysSecret) {
  ASSERT_TRUE(write_keys(directory_));
  struct stat status {};
  ASSERT_EQ(::stat((directory_ / "router.key").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(KeysTest, LeavesWhatExistsAsItIs) {
  ASSERT_TRUE(write_keys(directory_));
  const std::string before = read("router.key") + read("router.pub");
  EXPECT_THAT(write_keys(directory_).value(), IsEmpty());
  EXPECT_EQ(read("router.key") + read("router.pub"), before);
}

TEST_F(KeysTest, ComputesAPublicKeyThatIsMissing) {
  ASSERT_TRUE(write_keys(directory_));
  const std::string before = read("router.pub");
  std::filesystem::remove(directory_ / "router.pub");
  EXPECT_THAT(write_keys(directory_).value(), ElementsAre("router.pub"));
  EXPECT_EQ(read("router.pub"), before);
}

TEST_F(KeysTest, MakesNoSecondKeyForARoleThatRunsElsewhere) {
  write("scheduler.pub", generate_key_pair().public_key);
  ASSERT_TRUE(write_keys(directory_));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "scheduler.key"));
}

TEST_F(KeysTest, SaysWhenItCannotWrite) {
  write("file", "");
  EXPECT_EQ(write_keys(directory_ / "file" / "keys").error().code, ErrorCode::kUnavailable);
}

TEST_F(KeysTest, AdmitsFurtherKeysOfARole) {
  ASSERT_TRUE(write_keys(directory_));
  const KeyPair next = generate_key_pair();
  write("expert-worker-berlin.pub", next.public_key + "\r\n");
  const auto ring = KeyRing::load(directory_, NodeRole::kRouter);
  ASSERT_TRUE(ring) << ring.error().to_string();
  EXPECT_EQ(ring->role_of(next.public_key), NodeRole::kExpertWorker);
  EXPECT_NE(ring->server_key(NodeRole::kExpertWorker), next.public_key);
}

TEST_F(KeysTest, RefusesWhatIsMissing) {
  EXPECT_EQ(load_error(), ErrorCode::kNotFound);
  ASSERT_TRUE(write_keys(directory_));
  std::filesystem::remove(directory_ / "router.key");
  EXPECT_EQ(load_error(), ErrorCode::kNotFound);
  directory_ /= "nowhere";
  EXPECT_EQ(load_error(), ErrorCode::kNotFound);
}

TEST_F(KeysTest, RefusesFilesThatAreNoKeys) {
  ASSERT_TRUE(write_keys(directory_));
  const std::string good = read("gateway.pub");
  for (const std::string& bad :
       {std::string(), std::string(39, 'a'), std::string(41, 'a'), std::string(40, '"'),
        std::string(1 << 20, 'a'), good + good, good + "x"}) {
    write("gateway.pub", bad);
    EXPECT_EQ(load_error(), ErrorCode::kInvalidArgument) << bad.substr(0, 100);
  }
}

TEST_F(KeysTest, RefusesSecretKeysThatOthersCanReadOrWrite) {
  ASSERT_TRUE(write_keys(directory_));
  for (const mode_t mode : {0604u, 0602u, 0620u, 0666u}) {
    ::chmod((directory_ / "router.key").c_str(), mode);
    EXPECT_EQ(load_error(), ErrorCode::kInvalidArgument) << std::oct << mode;
  }
  ::chmod((directory_ / "router.key").c_str(), 0440);
  EXPECT_TRUE(KeyRing::load(directory_, NodeRole::kRouter));
}

TEST_F(KeysTest, RefusesAPairThatDoesNotMatch) {
  ASSERT_TRUE(write_keys(directory_));
  write("router.key", generate_key_pair().secret_key);
  EXPECT_EQ(load_error(), ErrorCode::kInvalidArgument);
}

TEST_F(KeysTest, RefusesAKeyOfTwoRoles) {
  ASSERT_TRUE(write_keys(directory_));
  write("operator-2.pub", read("gateway.pub"));
  EXPECT_EQ(load_error(), ErrorCode::kInvalidArgument);
}

TEST_F(KeysTest, RefusesPublicKeysOfNoRole) {
  ASSERT_TRUE(write_keys(directory_));
  write("gatway-2.pub", generate_key_pair().public_key);
  EXPECT_EQ(load_error(), ErrorCode::kInvalidArgument);
}

TEST(ClientsTest, FollowTheArrows) {
  EXPECT_THAT(clients_of(NodeRole::kRouter),
              UnorderedElementsAre(NodeRole::kGateway, NodeRole::kOperator));
  EXPECT_THAT(clients_of(NodeRole::kExpertWorker), ElementsAre(NodeRole::kRouter));
  EXPECT_THAT(clients_of(NodeRole::kGateway), ElementsAre(NodeRole::kOperator));
  EXPECT_THAT(clients_of(NodeRole::kScheduler), SizeIs(5));
  EXPECT_THAT(clients_of(NodeRole::kRegistry), SizeIs(5));
  EXPECT_THAT(clients_of(NodeRole::kOperator), IsEmpty());
}

TEST(LinkPasswordTest, IsTheSameAtBothEndsAndNowhereElse) {
  const KeyPair server = generate_key_pair();
  const KeyPair client = generate_key_pair();
  const KeyPair other = generate_key_pair();
  const std::string at_client = link_password(client, server.public_key, client.public_key);
  EXPECT_THAT(at_client, SizeIs(40));
  EXPECT_TRUE(
      same_password(at_client, link_password(server, client.public_key, client.public_key)));
  EXPECT_FALSE(
      same_password(at_client, link_password(other, server.public_key, client.public_key)));
  // The other way round it is another one.
  EXPECT_FALSE(
      same_password(at_client, link_password(client, server.public_key, server.public_key)));
  EXPECT_FALSE(same_password(at_client, at_client.substr(1)));
}

TEST(LinkPasswordTest, IsEmptyForMalformedKeys) {
  const KeyPair own = generate_key_pair();
  EXPECT_EQ(link_password(own, "short", own.public_key), "");
  EXPECT_EQ(link_password(own, own.public_key, std::string(40, '"')), "");
  EXPECT_EQ(link_password({own.public_key, ""}, own.public_key, own.public_key), "");
  // The point of order one, with which everybody's shared secret is the same.
  EXPECT_EQ(link_password(own, std::string(40, '0'), own.public_key), "");
}

}  // namespace
}  // namespace conclave::fabric
