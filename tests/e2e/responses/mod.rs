//! What a caller gets of the head of a response.

mod spelling;
