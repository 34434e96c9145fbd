use serde::{Deserialize, Serialize};

/// Where the next page begins: opaque to clients, an offset to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageToken {
    /// How many rows came before.
    pub offset: u64,
}
