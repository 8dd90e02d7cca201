"""The signed record: chain, closing signatures, anchors and their verification. Says what was done; decides nothing."""
