DROP FUNCTION postflow_lineage();
DROP TABLE lineage;
