-- Memory of the host: in use, read back, swapped
--
-- A row is a second of the whole host. In use is what programs could not get without swapping.
--
-- group: memory
-- needs: system_sample
-- metric: host_memory = share(used_bytes, total_bytes) lower : Share of the memory that is in use, averaged over the time.
-- metric: refaults = rate(refaulted_bytes) bytes lower : Pages of files that had been in memory not long ago and were read again.
-- metric: swap_ins = rate(swapped_in_bytes) bytes lower : Read back from swap.
-- metric: swap_outs = rate(swapped_out_bytes) bytes lower : Written to swap.
SELECT ts, mem_total_bytes - mem_available_bytes AS used_bytes, mem_total_bytes AS total_bytes,
    refaulted_bytes, swapped_in_bytes, swapped_out_bytes
FROM system_sample
WHERE mem_total_bytes IS NOT NULL AND mem_available_bytes IS NOT NULL
