-- Formats before did not tell: an opt-out that is unclear goes first once more.
ALTER TABLE retl_state.main.opt_outs ADD COLUMN is_unclear BOOLEAN DEFAULT true;
