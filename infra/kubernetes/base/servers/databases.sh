#!/bin/sh
# PostgreSQL's image runs this once, on an empty volume: a role for each data base, which may not enter the other one.
set -eu
export PGPASSWORD="$POSTGRES_PASSWORD" PGOPTIONS="-c log_min_error_statement=panic"
psql --no-psqlrc --quiet --username postgres --set ON_ERROR_STOP=1 <<'SQL'
\getenv prefect PREFECT_DATABASE_PASSWORD
\getenv mlflow MLFLOW_DATABASE_PASSWORD
CREATE ROLE prefect LOGIN PASSWORD :'prefect';
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow';
CREATE DATABASE prefect OWNER prefect;
CREATE DATABASE mlflow OWNER mlflow;
REVOKE ALL ON DATABASE prefect, mlflow FROM PUBLIC;
SQL
