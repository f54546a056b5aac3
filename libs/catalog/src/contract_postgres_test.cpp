// The contract over PostgreSQL: one server for all tests of the program, a database for each.
#include "conclave/testkit/test_postgres.hpp"
#include "contract.hpp"

namespace conclave::catalog::test {

std::vector<StoreKind> stores() {
  return {{"Postgres", [] { return testkit::shared_postgres().make_database(); }, true}};
}

}  // namespace conclave::catalog::test
