//! Every entry of the table, with a check that uses it and sees the difference.

use tandem_engine::testing::cover;

#[test]
fn every_entry_has_a_check() {
    cover(&tandem_aaa_radius::MODULE, &[]);
}
