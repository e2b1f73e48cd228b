#!/bin/sh
# Run by the PostgreSQL image when its data directory is new: a role and databases for Corral, and for Temporal.
set -eu

psql --username "$POSTGRES_USER" --dbname postgres --set ON_ERROR_STOP=1 \
  --set corral_password="$CORRAL_PASSWORD" --set temporal_password="$TEMPORAL_PASSWORD" <<'SQL'
CREATE ROLE temporal LOGIN PASSWORD :'temporal_password';
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;
CREATE ROLE corral LOGIN PASSWORD :'corral_password';
CREATE DATABASE corral OWNER corral;
SQL
