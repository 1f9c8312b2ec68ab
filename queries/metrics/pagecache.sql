-- Page cache: hits, misses, dirtied pages
--
-- A row is what a process did on one CPU in 100 ms; comm is the name that it had at the beginning. Misses are pages that a read had to
-- wait for: neither readahead nor page faults count. Where the kernel doesn't show reads, there are no hits.
--
-- group: memory
-- needs: page_cache
-- by: comm
-- metric: page_cache_hits = share(hits, accesses) higher : Share of the pages that reads found in the page cache.
-- metric: page_cache_misses = rate(missed) pages lower : Pages that reads did not find.
-- metric: page_cache_dirtied = rate(dirtied) pages neutral : Pages that became dirty.
SELECT ts, comm, dirtied, accesses,
    -- A read's pages may be looked up in one interval and missed in the next: only the sums say how many were found.
    CASE WHEN accesses IS NOT NULL THEN accesses - misses END AS hits,
    CASE WHEN accesses IS NOT NULL THEN misses END AS missed
FROM page_cache
