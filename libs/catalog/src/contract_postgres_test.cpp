// The contract over PostgreSQL: one server for all tests of the program, a database for each.
#include "contract.hpp"
#include "postgres_server.hpp"

namespace conclave::catalog::test {

std::vector<StoreKind> stores() {
  return {{"Postgres", [] { return server().make_database(); }, true}};
}

}  // namespace conclave::catalog::test
